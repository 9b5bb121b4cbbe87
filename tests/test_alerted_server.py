"""A real server whose model fails: the webhook, /health, /metrics and the terminal say so."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import msgspec
import pytest

import builders
from app_versions import fitted
from found import AGE, FINDINGS
from greenroom.findings import findings_file, write_findings
from real_server import deployed, served
from receiver import Receiver
from scraped import single
from waiting import wait_for

FAILING = """
def features(columns):
    if (columns["a"] == 7.5).any():
        raise RuntimeError("a failure of the model's own code")
    return columns
"""
QUICK = {
    "alert_interval_s": 0.1,
    "alert_window_s": 8.0,  # what fires is looked at meanwhile
    "alert_for_s": 0.5,
    "alert_min_requests": 5,
    "alert_error_rate_percent": 5.0,
    "alert_mlflow_tags": False,
    "alert_webhook_secret": "a secret of many bytes",
}


@pytest.fixture
def version(tmp_path) -> Path:
    rows = builders.numbers()
    return fitted(
        tmp_path / "1",
        builders.COLUMNS,
        rows,
        builders.classifier(rows),
        builders.labels(rows),
        FAILING,
    )


def told(receiver):
    return [
        (post.document["status"], post.document["commonLabels"]["alertname"])
        for post in receiver.taken
    ]


@pytest.mark.slow
def test_errors_above_the_threshold_reach_the_webhook_and_so_does_that_they_are_over(
    tmp_path, version, call
):
    receiver = Receiver(answers=[503]).start()
    home = tmp_path / "home"
    settings = {**QUICK, "alert_webhook_url": f"{receiver.url}/hook", "workers": 2}
    with served(deployed(version), home=home, log=True, **settings) as url:

        def ask(a):
            return httpx.post(f"{url}/predict", json={"a": a, "b": 1.0}).status_code

        def failing():
            assert ask(7.5) == 500
            assert ask(1.0) == 200
            return len(receiver.taken) == 1

        wait_for(failing, "the webhook is told", within_s=30)
        assert told(receiver) == [("firing", "GreenroomErrorRate")]
        assert [post.status for post in receiver.posts] == [503, 200]
        wait_for(
            lambda: httpx.get(f"{url}/health").json()["alerts"], "/health says it", within_s=30
        )
        health = httpx.get(f"{url}/health").json()
        assert health["status"] == "healthy", "predictions are answered"
        assert health["alerts"][0].startswith("GreenroomErrorRate (model m): ")
        metrics = httpx.get(f"{url}/metrics").text
        of = {"alert": "GreenroomErrorRate", "severity": "critical", "model": "m", "version": ""}
        assert single(metrics, "greenroom_alerts_firing", **of) == 1
        port = url.rpartition(":")[2]
        environment = {"GREENROOM_HOME": str(home), "GREENROOM_PORT": port}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            status, output, _ = call("alerts")
            assert status == 0
            assert "GreenroomErrorRate (model m)" in output
            assert "alert: GreenroomErrorRate" in call("status")[1]

        def well():
            assert ask(1.0) == 200
            return len(receiver.taken) == 2

        wait_for(well, "the webhook is told that it is over", within_s=30)
        assert told(receiver)[1] == ("resolved", "GreenroomErrorRate")
        wait_for(
            lambda: not httpx.get(f"{url}/health").json()["alerts"], "/health too", within_s=30
        )
    assert len({post.id for post in receiver.taken}) == 2
    receiver.stop()


@pytest.mark.slow
def test_what_a_run_finds_of_the_served_version_is_alerted_and_taken_up_by_the_next_server(
    tmp_path, version
):
    receiver = Receiver().start()
    home = tmp_path / "home"
    home.mkdir()
    settings = {**QUICK, "alert_webhook_url": receiver.url, "port": 0}
    of = {"model": "m", "version": "1", "performance": None, "estimate": None}
    found = msgspec.structs.replace(FINDINGS, **of)
    events: list[str] = []
    with served(deployed(version), home=home, log=True, said=events, **settings) as url:
        write_findings(findings_file(home), (found,))
        wait_for(lambda: len(receiver.taken) == 1, "drift is told", within_s=30)
        of = {"model": "m", "version": "1", "kind": "data"}
        metrics = httpx.get(f"{url}/metrics").text
        assert single(metrics, "greenroom_drift_detected", **of) == 1
        time.sleep(0.5)
        port = int(url.rpartition(":")[2])
    assert told(receiver) == [("firing", "GreenroomDataDrift")], "once"
    assert any(event.startswith("alert: GreenroomDataDrift") for event in events)
    with served(deployed(version), home=home, log=True, **{**settings, "port": port}):
        time.sleep(0.5)
        assert len(receiver.taken) == 1, "it is not told again"
        findings_file(home).unlink()
        time.sleep(0.5)
        assert len(receiver.taken) == 1, "nobody knows now whether it is over"
        stable = msgspec.structs.replace(AGE, verdict="stable")
        drift = msgspec.structs.replace(found.drift, features=(stable,))
        later = msgspec.structs.replace(found, at="2026-11-21T13:00:00Z", drift=drift)
        write_findings(findings_file(home), (later,))
        wait_for(lambda: len(receiver.taken) == 2, "that it is over is told", within_s=30)
    assert told(receiver)[1] == ("resolved", "GreenroomDataDrift")
    receiver.stop()
