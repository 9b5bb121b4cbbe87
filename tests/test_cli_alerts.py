"""``greenroom alerts`` on the terminal."""

from __future__ import annotations

import msgspec
import pytest

from found import SLOW
from greenroom.alerts import AlertRecord, Notice, alerts_file, write_alerts
from receiver import Receiver


@pytest.fixture
def receiver():
    made = Receiver().start()
    yield made
    made.stop()


def test_a_server_that_never_alerted_says_so_and_where_others_did(call, tmp_path):
    write_alerts(alerts_file(tmp_path / ".greenroom", 8001), AlertRecord())
    status, output, errors = call("alerts")
    assert (status, output) == (0, "nothing was ever alerted by a server on port 8000\n")
    assert "port 8001: give --port" in errors
    assert call("alerts", "--port", "8001")[1] == "nothing fires\n"


def test_what_fires_is_pending_was_told_and_waits_is_shown(call, tmp_path):
    pending = msgspec.structs.replace(SLOW, name="GreenroomSilence", state="pending")
    over = msgspec.structs.replace(SLOW, name="GreenroomErrorRate", state="resolved")
    notice = Notice(id="1", at_s=1_795_000_000.0, kind="firing", alert=SLOW)
    record = AlertRecord(
        alerts=(SLOW, pending, over),
        waiting=(notice,),
        recent=(notice,),
        n_delivered=3,
        problem="http://hook answered HTTP 500",
    )
    write_alerts(alerts_file(tmp_path / ".greenroom", 8000), record)
    status, output, _ = call("alerts")
    assert status == 0
    assert "GreenroomSlowResponses (model credit)" in output
    assert "GreenroomSilence" in output
    assert "GreenroomErrorRate" not in output, "it is over, and was told before"
    assert "2026-11-18 11:06:40" in output
    line = "webhook: 3 notices delivered, 1 waiting, 0 dropped; http://hook answered HTTP 500\n"
    assert output.endswith(line)


def test_a_test_notice_goes_to_every_receiver(call, receiver, monkeypatch):
    monkeypatch.setenv("GREENROOM_ALERT_WEBHOOK_URL", f"{receiver.url}/hook")
    monkeypatch.setenv("GREENROOM_ALERTMANAGER_URL", receiver.url)
    status, output, _ = call("alerts", "--test")
    assert status == 0
    assert output.count("has taken a test") == 2
    assert [post.path for post in receiver.posts] == ["/hook", "/api/v2/alerts"]
    hooked, managed = (post.document for post in receiver.posts)
    assert hooked["alerts"][0]["labels"]["alertname"] == "GreenroomTest"
    assert managed[0]["labels"]["alertname"] == "GreenroomTest"


def test_a_receiver_that_does_not_take_it_is_an_error_and_the_others_are_told(
    call, receiver, monkeypatch
):
    receiver.answers = [401]
    monkeypatch.setenv("GREENROOM_ALERT_WEBHOOK_URL", f"{receiver.url}/hook")
    monkeypatch.setenv("GREENROOM_ALERTMANAGER_URL", receiver.url)
    status, output, errors = call("alerts", "--test")
    assert status == 1
    assert "answered HTTP 401" in errors
    assert "Alertmanager" in output


def test_without_a_receiver_there_is_nothing_to_test(call):
    status, _, errors = call("alerts", "--test")
    assert status == 1
    assert "set alert_webhook_url or alertmanager_url" in " ".join(errors.split())


def test_a_file_that_cannot_be_read_is_one_line(call, tmp_path):
    path = alerts_file(tmp_path / ".greenroom", 8000)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    status, _, errors = call("alerts")
    assert (status, errors.count("\n")) == (1, 1)
