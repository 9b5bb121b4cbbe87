"""Events wait on disk in their order, and not without end."""

from __future__ import annotations

import pytest

from greenroom.log import server_events
from greenroom.log.server_events import EventBox, ServerEvent

NOON_US = 1_795_262_400_000_000  # 2026-11-21 12:00:00 UTC


def test_events_are_found_in_the_order_in_which_they_happened(tmp_path):
    box = EventBox(tmp_path)
    assert box.empty
    later = ServerEvent(at_us=NOON_US + 1, kind="served", facts={"version": "3"})
    first = ServerEvent(at_us=NOON_US, kind="sample", figures={"health/healthy": 1.0})
    box.note(later)
    box.note(first)
    assert [event for _, event in EventBox(tmp_path).waiting(10)] == [first, later]
    assert [event for _, event in box.waiting(1)] == [first]
    assert not box.empty


def test_two_events_of_one_instant_are_two(tmp_path):
    box = EventBox(tmp_path)
    for version in ("3", "4"):
        box.note(ServerEvent(at_us=NOON_US, kind="served", facts={"version": version}))
    assert [event.facts["version"] for _, event in box.waiting(10)] == ["3", "4"]


def test_what_a_power_cut_has_left_of_an_event_is_left_out(tmp_path, caplog):
    box = EventBox(tmp_path)
    for n in range(3):
        box.note(ServerEvent(at_us=NOON_US + n, kind="sample"))
    (torn, _), *_ = box.waiting(1)
    torn.write_bytes(b"")
    assert [event.at_us - NOON_US for _, event in box.waiting(10)] == [1, 2]
    assert torn.name in caplog.text
    assert not torn.exists()


@pytest.mark.parametrize(("kind", "kept"), [("served", [0, 1, 4]), ("sample", [2, 3, 4])])
def test_when_too_many_wait_the_oldest_samples_go_first(tmp_path, monkeypatch, kind, kept):
    monkeypatch.setattr(server_events, "MAX_WAITING", 3)
    box = EventBox(tmp_path)
    for n in range(5):
        box.note(ServerEvent(at_us=NOON_US + n, kind=kind if n < 2 else "sample"))
    assert [event.at_us - NOON_US for _, event in box.waiting(10)] == kept
