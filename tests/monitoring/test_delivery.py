"""Notices on their way to a real receiver that fails, is slow and goes away."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from greenroom.alerts import read_alerts
from greenroom.errors import MonitoringError
from greenroom.monitoring import alert_book, delivery
from greenroom.monitoring.alert_book import AlertBook
from greenroom.monitoring.alert_states import Condition
from greenroom.monitoring.delivery import Alertmanager, Courier, Webhook
from receiver import Receiver
from waiting import wait_for

KEY = b"a secret of many bytes"


@pytest.fixture
def receiver():
    made = Receiver().start()
    yield made
    made.stop()


class Sender:
    """A book, a webhook and a courier, with clocks that are moved by hand."""

    def __init__(self, path: Path, url: str) -> None:
        self.now_s, self.events = 1_795_000_000.0, []
        self.book = AlertBook(
            path, queues=True, repeat_s=0.0, on_problem=self.events.append, clock_s=self.clock
        )
        webhook = Webhook(url, KEY, link="http://server:8000", clock_s=self.clock)
        self.courier = Courier(self.book, webhook, on_event=self.events.append, clock_s=self.clock)

    def clock(self) -> float:
        return self.now_s

    def fire(self, *names: str) -> None:
        self.book.take([Condition(name, "warning", {"model": "m"}, "bad") for name in names])

    def round(self, after_s: float = 0.0) -> None:
        self.now_s += after_s
        self.courier.round()


def told(posts):
    return [
        (post.document["alerts"][0]["labels"]["alertname"], post.document["status"])
        for post in posts
    ]


@pytest.fixture
def sender(tmp_path, receiver):
    return Sender(tmp_path / "8000.json", f"{receiver.url}/hook?token=1")


def test_a_notice_is_posted_signed_and_with_its_time(sender, receiver):
    sender.fire("A")
    sender.round()
    (post,) = receiver.posts
    assert post.path == "/hook?token=1"
    assert post.headers["webhook-timestamp"] == "1795000000"
    assert post.headers["webhook-signature"].startswith("v1,")
    assert post.document["version"] == "4"
    assert sender.book.record.waiting == ()
    assert sender.book.record.n_delivered == 1


def test_what_is_not_taken_waits_in_its_order_and_is_tried_again_later_and_later(sender, receiver):
    receiver.answers = [500, 429, 302, 404]
    sender.fire("A")
    sender.fire("B")  # and A is over
    tries = []
    for second in range(40):
        sender.round(after_s=1.0)
        if len(receiver.posts) > len(tries):
            tries.append(second)
        if not sender.book.record.waiting:
            break
    assert tries == [0, 1, 3, 7, 15]
    expected = [("A", "firing"), ("A", "resolved"), ("B", "firing")]
    assert told(receiver.taken) == expected
    assert len({post.id for post in receiver.posts}) == 3
    assert [post.id for post in receiver.posts[:5]] == [receiver.posts[0].id] * 5
    first, *_ = {post.body for post in receiver.posts[:5]}
    assert {post.body for post in receiver.posts[:5]} == {first}, "the same bytes each time"
    assert (sender.book.record.n_failed, sender.book.record.problem) == (4, "")
    assert sender.events[0].startswith("notices of alerts wait on disk: http://127.0.0.1")
    assert "token" not in sender.events[0]
    assert sender.events[1].endswith("takes notices of alerts again")
    assert len(sender.events) == 2


def test_an_answer_that_gets_lost_brings_the_notice_twice_with_one_id(sender, receiver):
    receiver.answers = ["hang"]
    sender.fire("A")
    sender.round()
    sender.round(after_s=5.0)
    assert len(receiver.posts) == 2
    assert len({post.id for post in receiver.posts}) == 1


def test_a_receiver_that_is_slow_is_given_up_and_one_that_is_away_is_waited_for(
    sender, receiver, monkeypatch
):
    monkeypatch.setattr(delivery, "TIMEOUT_S", 0.1)
    receiver.pause_s = 1.5
    sender.fire("A")
    began = time.monotonic()
    sender.round()
    assert time.monotonic() - began < 1.4
    assert "was not reached" in sender.book.record.problem
    receiver.pause_s = 0.0
    receiver.stop()
    sender.round(after_s=400.0)
    receiver.start()
    sender.round(after_s=400.0)
    assert sender.book.record.waiting == ()


def test_what_waits_survives_the_end_of_the_process(tmp_path, sender, receiver):
    receiver.answers = [500]
    sender.fire("A")
    sender.round()
    sender.fire()
    after = Sender(tmp_path / "8000.json", receiver.url)
    after.round()
    assert told(receiver.taken) == [("A", "firing"), ("A", "resolved")]
    assert receiver.taken[0].id == receiver.posts[0].id


def test_so_many_notices_wait_and_no_more_and_the_oldest_are_dropped(sender, monkeypatch):
    monkeypatch.setattr(alert_book, "MOST_WAITING", 6)
    for _ in range(5):
        sender.fire("A")
        sender.fire()
    record = sender.book.record
    assert (len(record.waiting), record.n_dropped) == (6, 4)
    assert [notice.kind for notice in record.waiting] == ["firing", "resolved"] * 3


PROGRAM = """
import sys, time
from pathlib import Path
from greenroom.monitoring.alert_book import AlertBook
from greenroom.monitoring.alert_states import Condition
from greenroom.monitoring.delivery import Courier, Webhook

path, url, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
book = AlertBook(path, queues=True, repeat_s=0.0, on_problem=print)
courier = Courier(book, Webhook(url, b"", link=""), on_event=print)
for number in range(first, first + 8):
    book.take([Condition(f"A{number:02d}", "warning", {}, "bad")])
print("noted", flush=True)
while True:
    courier.round()
    time.sleep(0.005)
"""


def test_each_notice_arrives_in_its_order_however_often_the_process_is_killed(tmp_path, receiver):
    """A process notes eight alerts, one after the other, and is killed while it delivers."""
    receiver.pause_s = 0.02
    path = tmp_path / "8000.json"
    for first in (0, 8):
        command = [sys.executable, "-c", PROGRAM, str(path), receiver.url, str(first)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"noted\n"
        n_before = len(receiver.posts)
        wait_for(lambda n=n_before: len(receiver.posts) > n + 2, "some are sent", within_s=20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    receiver.pause_s = 0.0
    sender = Sender(path, receiver.url)
    assert sender.book.record.waiting, "it was killed in the middle"
    sender.round()
    first_time = list(dict.fromkeys(post.id for post in receiver.taken))
    by_id = {post.id: post for post in receiver.taken}
    expected = [("A00", "firing")]
    for number in range(1, 16):
        expected += [(f"A{number - 1:02d}", "resolved"), (f"A{number:02d}", "firing")]
    assert told([by_id[one] for one in first_time]) == expected
    assert read_alerts(path).waiting == ()


def manager_of(sender, receiver):
    return Alertmanager(
        receiver.url, link="http://server:8000", on_event=sender.events.append, clock_s=sender.clock
    )


def test_alertmanager_is_told_what_fires_at_once_then_every_minute_and_when_it_is_over(
    sender, receiver
):
    manager = manager_of(sender, receiver)
    manager.round(sender.book.record)
    assert receiver.posts == [], "there is nothing to tell"
    sender.fire("A")
    for _ in range(120):
        manager.round(sender.book.record)
        sender.now_s += 1.0
    assert len(receiver.posts) == 2
    first, again = (post.document[0] for post in receiver.posts)
    assert receiver.posts[0].path == "/api/v2/alerts"
    assert first["labels"] == {"alertname": "A", "severity": "warning", "model": "m"}
    assert first["startsAt"] == again["startsAt"]
    ends_at = datetime.fromisoformat(first["endsAt"]).timestamp()
    assert ends_at == 1_795_000_000.0 + 240.0, "taken for over unless it is told again"
    sender.fire()
    manager.round(sender.book.record)
    over = receiver.posts[2].document[0]
    assert datetime.fromisoformat(over["endsAt"]).timestamp() <= sender.now_s


def test_an_alertmanager_that_was_away_is_told_as_soon_as_it_is_there(sender, receiver):
    manager = manager_of(sender, receiver)
    receiver.answers = [503, 503]
    sender.fire("A")
    for _ in range(4):
        manager.round(sender.book.record)
    assert [post.status for post in receiver.posts] == [503, 503, 200]
    assert len(sender.events) == 2
    assert "HTTP 503" in sender.events[0]


def test_an_address_that_is_none_is_a_failure_like_any_other():
    with pytest.raises(MonitoringError, match="was not reached"):
        delivery._post("http://127.0.0.1:1/x", json.dumps({}).encode(), {})
