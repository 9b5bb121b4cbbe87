"""Alerts as other programs want to be told them, and the signature of what is posted.

Alertmanager's own two forms: what its clients post to ``/api/v2/alerts``
(https://github.com/prometheus/alertmanager, ``api/v2/openapi.yaml``), and what it posts to a
webhook itself (https://prometheus.io/docs/alerting/latest/configuration/#webhook_config, version
"4"), so that whatever was made for Alertmanager understands a notice of ours. Signed as Standard
Webhooks says (https://www.standardwebhooks.com), for which there are libraries.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from greenroom.alerts import Alert, Notice

__all__ = ["alertmanager_alerts", "fingerprint", "signed_headers", "signing_key", "webhook_body"]

_NOT_ENDED: Final = "0001-01-01T00:00:00Z"
_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
_KEY_PREFIX: Final = "whsec_"


def webhook_body(notice: Notice, *, link: str) -> bytes:
    """Return a notice as the webhook gets it; the same bytes however often it is sent.

    Parameters
    ----------
    notice : Notice
    link : str
        The server's address, as a reader of the notice can reach it.
    """
    alert = notice.alert
    over = notice.kind == "resolved"
    labels, annotations = _labels(alert), _annotations(alert)
    document = {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{alert.name}"}}',
        "truncatedAlerts": 0,
        "status": "resolved" if over else "firing",
        "receiver": "greenroom",
        "groupLabels": {"alertname": alert.name},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": link,
        "alerts": [
            {
                "status": "resolved" if over else "firing",
                "labels": labels,
                "annotations": annotations,
                "startsAt": _instant(_starts_at_s(alert)),
                "endsAt": _instant(alert.resolved_at_s or notice.at_s) if over else _NOT_ENDED,
                "generatorURL": f"{link}/metrics",
                "fingerprint": fingerprint(labels),
            }
        ],
    }
    return msgspec.json.encode(document)


def alertmanager_alerts(
    alerts: Iterable[Alert], *, link: str, ends_at_s: float
) -> list[dict[str, Any]]:
    """Return alerts as Alertmanager's API takes them.

    Parameters
    ----------
    alerts : iterable of Alert
        Those that fire, and those that are over.
    link : str
    ends_at_s : float
        When those that fire are to be taken for over unless they are told again.
    """
    return [
        {
            "labels": _labels(alert),
            "annotations": _annotations(alert),
            "startsAt": _instant(_starts_at_s(alert)),
            "endsAt": _instant(
                alert.resolved_at_s if alert.resolved_at_s is not None else ends_at_s
            ),
            "generatorURL": f"{link}/metrics",
        }
        for alert in alerts
        if alert.state in {"firing", "resolved"}
    ]


def signing_key(secret: str) -> bytes:
    """Return the bytes to sign with: those of ``whsec_`` and base64, else the text's own.

    Raises
    ------
    ValueError
        When what follows ``whsec_`` is no base64.

    Examples
    --------
    >>> signing_key("whsec_c2VjcmV0"), signing_key("secret")
    (b'secret', b'secret')
    """
    if not secret.startswith(_KEY_PREFIX):
        return secret.encode()
    return base64.b64decode(secret.removeprefix(_KEY_PREFIX), validate=True)


def signed_headers(notice_id: str, body: bytes, key: bytes, now_s: float) -> Mapping[str, str]:
    """Return what a post says of itself: its id, the time, and a signature where there is a key.

    The signature is HMAC-SHA256 over ``id.timestamp.body``.

    Examples
    --------
    >>> signed_headers("7", b"{}", b"secret", 0.0)["webhook-signature"]
    'v1,cZA1OB3QNy9WLFYkTx1YMy76fbgriFon5AXry6F9fdU='
    """
    stamp = str(int(now_s))
    headers = {
        "content-type": "application/json",
        "user-agent": "greenroom",
        "webhook-id": notice_id,
        "webhook-timestamp": stamp,
    }
    if key:
        content = b".".join((notice_id.encode(), stamp.encode(), body))
        digest = hmac.new(key, content, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def fingerprint(labels: Mapping[str, str]) -> str:
    """Return what Alertmanager calls alerts with these labels: FNV-1a, 64 bits.

    As ``LabelSet.Fingerprint`` of github.com/prometheus/common/model computes it.

    Examples
    --------
    >>> fingerprint({})
    'cbf29ce484222325'
    """
    value = _FNV_OFFSET
    for name, text in sorted(labels.items()):
        for byte in (*name.encode(), 255, *text.encode(), 255):
            value = ((value ^ byte) * _FNV_PRIME) % 2**64
    return f"{value:016x}"


def _labels(alert: Alert) -> dict[str, str]:
    return {"alertname": alert.name, "severity": alert.severity, **alert.labels}


def _annotations(alert: Alert) -> dict[str, str]:
    shown = {"summary": alert.summary, "description": alert.description}
    return {name: text for name, text in shown.items() if text}


def _starts_at_s(alert: Alert) -> float:
    return alert.began_at_s if alert.fired_at_s is None else alert.fired_at_s


def _instant(unix_s: float) -> str:
    text = datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
