"""What watches a server is built as settings say."""

from __future__ import annotations

import socket

import pytest

from greenroom.errors import SettingsError
from greenroom.monitoring_wiring import build_alertmanager, build_monitoring, build_webhook
from greenroom.settings import Settings

SECRET = "a secret of many bytes"
URL = "https://hooks.example/services/T0/secret"


def webhook(tmp_path, **settings):
    return build_webhook(Settings(home=str(tmp_path), alert_webhook_url=URL, **settings), 8000)


def test_without_an_address_there_is_no_receiver(tmp_path):
    settings = Settings(home=str(tmp_path))
    assert build_webhook(settings, 8000) is None
    assert build_alertmanager(settings, 8000, on_event=print) is None


def test_the_secret_stands_in_a_setting_or_in_a_file(tmp_path):
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    assert webhook(tmp_path, alert_webhook_secret=SECRET)._key == SECRET.encode()
    assert webhook(tmp_path, alert_webhook_secret_file="secret")._key == SECRET.encode()
    assert webhook(tmp_path)._key == b""


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"alert_webhook_secret": "short"}, "holds 5 bytes"),
        ({"alert_webhook_secret": "whsec_c2VjcmV0"}, "holds 6 bytes"),
        ({"alert_webhook_secret": "whsec_!"}, "no base64"),
        ({"alert_webhook_secret_file": "absent"}, "cannot be read: No such file"),
        ({"alert_webhook_secret_file": "empty"}, "holds 0 bytes"),
        ({"alert_webhook_secret": SECRET, "alert_webhook_secret_file": "f"}, "are both set"),
    ],
)
def test_a_secret_that_cannot_be_used_is_said_at_the_start_and_not_shown(
    tmp_path, settings, problem
):
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SettingsError, match=problem) as caught:
        webhook(tmp_path, **settings)
    assert SECRET not in str(caught.value)


def test_what_is_shown_of_a_receivers_address_holds_no_token(tmp_path):
    assert webhook(tmp_path).name == "https://hooks.example"


@pytest.mark.parametrize(
    ("settings", "link"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"host": "::1"}, "http://[::1]:8000"),
        ({"host": "0.0.0.0"}, f"http://{socket.gethostname()}:8000"),
        ({"ssl_certfile": "a.pem"}, "https://127.0.0.1:8000"),
        ({"alert_link": "https://models.example/"}, "https://models.example"),
    ],
)
def test_a_notice_leads_back_to_the_server(tmp_path, settings, link):
    assert webhook(tmp_path, **settings)._link == link


@pytest.mark.parametrize(
    ("settings", "runs"),
    [
        ({}, True),
        ({"track_drift": False}, False),
        ({"monitor_interval_s": 0.0}, False),
        ({"log": False}, False),
        ({"mlflow_enabled": False}, False),
    ],
)
def test_runs_are_begun_where_there_is_a_log_and_somebody_wants_them(tmp_path, settings, runs):
    chosen = Settings(home=str(tmp_path), **settings)
    built = build_monitoring(chosen, tmp_path, config=None, on_event=print)
    assert (built._runs is not None) is runs


def test_tags_are_written_where_mlflow_is_asked_and_somebody_wants_them(tmp_path):
    def tagged(**settings):
        chosen = Settings(home=str(tmp_path), **settings)
        return build_monitoring(chosen, None, config=None, on_event=print)._registry is not None

    assert tagged()
    assert not tagged(alert_mlflow_tags=False)
    assert not tagged(mlflow_enabled=False)
