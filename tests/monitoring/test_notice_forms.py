"""Alerts in Alertmanager's forms, and their signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from greenroom.alerts import Alert, Notice
from greenroom.monitoring.notice_forms import (
    alertmanager_alerts,
    fingerprint,
    signed_headers,
    signing_key,
    webhook_body,
)

LINK = "http://server:8000"


def alert(**more):
    given = {
        "name": "GreenroomErrorRate",
        "severity": "critical",
        "labels": {"model": "m"},
        "summary": "6 % are errors",
        "state": "firing",
        "began_at_s": 1_795_000_000.0,
        "fired_at_s": 1_795_000_060.5,
        **more,
    }
    return Alert(**given)


def posted(kind, **more):
    notice = Notice(id="7", at_s=1_795_000_100.0, kind=kind, alert=alert(**more))
    return json.loads(webhook_body(notice, link=LINK))


def test_a_notice_has_every_field_of_alertmanagers_webhooks():
    document = posted("firing")
    assert set(document) == {
        "version", "groupKey", "truncatedAlerts", "status", "receiver", "groupLabels",
        "commonLabels", "commonAnnotations", "externalURL", "alerts",
    }  # fmt: skip
    (one,) = document["alerts"]
    assert one == {
        "status": "firing",
        "labels": {"alertname": "GreenroomErrorRate", "severity": "critical", "model": "m"},
        "annotations": {"summary": "6 % are errors"},
        "startsAt": "2026-11-18T11:07:40.500Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://server:8000/metrics",
        "fingerprint": one["fingerprint"],
    }
    assert document["status"] == posted("repeated")["status"] == "firing"


def test_a_notice_that_it_is_over_says_when():
    (one,) = posted("resolved", state="resolved", resolved_at_s=1_795_000_100.0)["alerts"]
    assert (one["status"], one["endsAt"]) == ("resolved", "2026-11-18T11:08:20.000Z")
    assert one["startsAt"] == "2026-11-18T11:07:40.500Z", "the same as when it fired"


def test_alertmanager_is_told_of_what_fires_and_what_is_over_and_not_of_what_is_pending():
    over = alert(state="resolved", resolved_at_s=1_795_000_100.0)
    told = alertmanager_alerts(
        [alert(), over, alert(state="pending")], link=LINK, ends_at_s=1_795_000_300.0
    )
    assert [one["endsAt"] for one in told] == [
        "2026-11-18T11:11:40.000Z",
        "2026-11-18T11:08:20.000Z",
    ]


def test_a_fingerprint_does_not_depend_on_the_order_and_is_prometheus_own():
    # Computed by hand: FNV-1a over "a", 255, "b", 255.
    value = 0xCBF29CE484222325
    for byte in (97, 255, 98, 255):
        value = (value ^ byte) * 0x100000001B3 % 2**64
    assert fingerprint({"a": "b"}) == f"{value:016x}"
    assert fingerprint({"a": "1", "b": "2"}) == fingerprint({"b": "2", "a": "1"})
    assert fingerprint({"a": "1"}) != fingerprint({"a": "2"})


def test_a_signature_covers_id_time_and_body():
    def signature(notice_id="7", body=b"{}", now_s=10.0, key=b"key"):
        return signed_headers(notice_id, body, key, now_s)["webhook-signature"]

    digest = hmac.new(b"key", b"7.10.{}", hashlib.sha256).digest()
    assert signature() == f"v1,{base64.b64encode(digest).decode()}"
    others = {
        signature(notice_id="8"),
        signature(body=b"[]"),
        signature(now_s=11.0),
        signature(key=b"other"),
    }
    assert len(others) == 4
    assert signature() not in others


def test_without_a_secret_nothing_is_signed():
    assert "webhook-signature" not in signed_headers("7", b"{}", b"", 0.0)


def test_what_follows_the_prefix_has_to_be_base64():
    with pytest.raises(ValueError, match=r"base64|Non-base64"):
        signing_key("whsec_ not base64")
