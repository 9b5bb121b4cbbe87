"""The spool and what appends to it: slots, sealing, order, a full disk, a killed writer."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from greenroom.errors import SpoolFull
from greenroom.log.log_records import Answers, Request, Version, encode, read_record
from greenroom.log.segments import HEAD_BYTES, Segment, SegmentWriter
from greenroom.log.spool import Balance, Ledger, Spool, rows_in
from greenroom.log.spooling import Spooler
from greenroom.schema import Column
from waiting import wait_for

ROOM = 2**30


def spooler(spool, **changes):
    options = {"fsync_s": 0.01, "seal_s": 60.0, "max_bytes": ROOM, "segment_bytes": 8_192}
    return Spooler(spool, **{**options, **changes})


def answers(name, n_rows=1, number=1):
    ids = [f"{name}-{row}" for row in range(n_rows)]
    request = Request(ids, 0, n_rows == 1, 250, "me", "/predict", "", "body", b'{"a": 1}')
    return encode(Answers(number, 1, n_rows, 1_000, [request], [[0.5] * n_rows]))


def described(number=1):
    about = {"task": "regression", "columns": (Column("a"),), "outputs": ("prediction",)}
    return encode(Version(number=number, model="m", name="m", version="1", **about))


def append(to, name, n_rows=1, number=1):
    to.append(answers(name, n_rows, number), n_rows, number, lambda: described(number))


def ids_in(spool):
    found = []
    for slot in spool.slots():
        for segment in slot.segments():
            for payload in segment.frames():
                record = read_record(payload)
                if isinstance(record, Answers):
                    found += [one for request in record.requests for one in request.ids]
    return found


def test_a_spool_knows_since_when_its_oldest_predictions_wait(tmp_path):
    spool = Spool(tmp_path / "spool")
    assert spool.oldest_us() is None
    writers = [spooler(spool), spooler(spool)]
    assert spool.oldest_us() is None, "what is made ready holds nothing yet"
    for name, writer in zip(("first", "second"), writers, strict=True):
        append(writer, name)
        writer.close()
    slots = spool.slots()
    for slot, at_s in zip(slots, (1_000, 2_000), strict=True):
        (segment,) = slot.segments()
        os.utime(segment.path, (at_s, at_s))
    assert spool.oldest_us() == 1_000_000_000
    slots[0].shipped(Ledger(slots[0].last_sequence(), 1))
    assert spool.oldest_us() == 2_000_000_000
    slots[1].shipped(Ledger(slots[1].last_sequence(), 1))
    assert spool.oldest_us() is None


def test_a_prediction_after_hours_of_quiet_has_not_waited_for_hours(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    with writer._lock:
        open_segment = writer._open
        hours_ago = open_segment.head._replace(began_at_us=1)
        open_segment.head = hours_ago
        open_segment._write_head()
    before_us = time.time_ns() // 1_000 - 1_000_000
    append(writer, "late")
    assert spool.oldest_us() > before_us
    writer.close()
    assert spool.oldest_us() > before_us


def test_every_segment_says_by_itself_of_which_version_its_answers_are(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    for n in range(400):
        append(writer, f"p{n}", number=1 + n % 2)
    writer.close()
    (slot,) = spool.slots()
    segments = slot.segments()
    assert len(segments) > 2
    for segment in segments:
        known = set()
        for payload in segment.frames():
            record = read_record(payload)
            if isinstance(record, Version):
                known.add(record.number)
            else:
                assert record.version in known


def test_nothing_is_lost_or_doubled_over_many_segments_and_their_order_is_kept(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    for n in range(500):
        append(writer, f"p{n}", n_rows=1 + n % 3)
    writer.close()
    expected = [f"p{n}-{row}" for n in range(500) for row in range(1 + n % 3)]
    assert ids_in(spool) == expected
    assert spool.balance() == Balance(len(expected), 0, len(expected))


def test_a_frame_larger_than_a_segment_gets_one_of_its_own(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    append(writer, "small")
    append(writer, "large", n_rows=2_000)
    append(writer, "after")
    writer.close()
    found = ids_in(spool)
    assert (found[0], found[1], found[-1], len(found)) == ("small-0", "large-0", "after-0", 2_002)


def test_several_threads_append_without_losing_anything(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    threads = [
        threading.Thread(target=lambda n=n: [append(writer, f"t{n}-{i}") for i in range(200)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert sorted(ids_in(spool)) == sorted(f"t{n}-{i}-0" for n in range(4) for i in range(200))


def test_a_segment_is_sealed_when_it_has_been_open_for_long_enough(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool, seal_s=0.05)
    append(writer, "quiet")
    (slot,) = spool.slots()
    wait_for(lambda: any(one.sealed for one in slot.segments()), "it is sealed", within_s=30)
    append(writer, "next")
    writer.close()
    assert ids_in(spool) == ["quiet-0", "next-0"]


def test_two_writers_have_a_slot_each_and_a_freed_one_is_taken_again(tmp_path):
    spool = Spool(tmp_path / "spool")
    first, second = spooler(spool), spooler(spool)
    assert (first.slot, second.slot) == (1, 2)
    append(first, "a")
    first.close()
    third = spooler(spool)
    append(third, "b")
    assert third.slot == 1
    third.close()
    second.close()
    (one, _) = spool.slots()
    assert [segment.head.rows_before for segment in one.segments()] == [0, 1]
    sequences = [segment.head.sequence for segment in one.segments()]
    assert sequences == sorted(set(sequences))


def test_what_a_killed_writer_left_open_is_sealed_and_counted_by_the_next(tmp_path):
    child = (
        "import os, signal, sys, pathlib\n"
        "sys.path.insert(0, os.getcwd() + '/tests')\n"
        "from test_spooling import append, spooler\n"
        "from greenroom.log.spool import Spool\n"
        f"writer = spooler(Spool(pathlib.Path({str(tmp_path / 'spool')!r})))\n"
        "for n in range(300):\n"
        "    append(writer, f'p{n}')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", child], check=False)
    assert ended.returncode == -signal.SIGKILL
    spool = Spool(tmp_path / "spool")
    assert spool.balance() == Balance(300, 0, 300)
    writer = spooler(spool)
    append(writer, "after")
    writer.close()
    assert ids_in(spool) == [*(f"p{n}-0" for n in range(300)), "after-0"]
    assert spool.balance() == Balance(301, 0, 301)


def test_whoever_ships_can_seal_what_a_dead_writer_left_and_never_what_a_living_one_has(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    append(writer, "living")
    spool.seal_leftovers()
    (slot,) = spool.slots()
    assert not any(segment.sealed for segment in slot.segments())
    os.close(writer._slot_lock)  # as the system does when a process ends
    spool.seal_leftovers()
    assert [segment.sealed for segment in slot.segments()] == [True]
    assert rows_in(slot.segments()[0]) == 1


def left_open(spool):
    """Leave a segment as a writer does that is killed after one prediction; return where it is."""
    writer = spooler(spool)
    append(writer, "left")
    (slot,) = spool.slots()
    path = next(one.path for one in slot.segments() if one.n_rows)
    os.close(writer._slot_lock)  # as the system does when a process ends
    return path


def test_a_segment_whose_writer_was_killed_before_it_had_a_head_is_removed(tmp_path):
    spool = Spool(tmp_path / "spool")
    path = left_open(spool)
    unused = path.with_name("000000000099.open")
    unused.write_bytes(bytes(8_192))
    empty = path.with_name("000000000100.open")
    empty.touch()
    spool.seal_leftovers()
    assert not unused.exists()
    assert not empty.exists()
    assert ids_in(spool) == ["left-0"]


def test_an_open_segment_of_a_later_format_is_left_as_it_is(tmp_path):
    spool = Spool(tmp_path / "spool")
    path = left_open(spool)
    with path.open("r+b") as file:  # not cut: the writer has it mapped
        file.seek(8)
        file.write(b"\x09")
    before = path.read_bytes()
    spool.seal_leftovers()
    assert path.read_bytes() == before


def test_a_leftover_that_holds_what_is_no_record_is_kept_for_who_looks_at_it(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    writer.append(b"of a later kind", 2, -1, lambda: b"")
    os.close(writer._slot_lock)
    spool.seal_leftovers()
    (slot,) = spool.slots()
    assert [(one.sealed, one.n_rows) for one in slot.segments()] == [(True, 2)]
    assert spool.balance() == Balance(2, 0, 2)


def test_what_is_shipped_is_not_read_again_and_its_numbers_are_not_given_again(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    append(writer, "shipped", n_rows=3)
    writer.close()
    (slot,) = spool.slots()
    (segment,) = slot.segments()
    slot.shipped(Ledger(segment.head.sequence, 3))
    assert slot.segments() == []
    segment.path.unlink()
    assert spool.balance() == Balance(3, 3, 0)
    again = spooler(Spool(tmp_path / "spool"))
    append(again, "next")
    again.close()
    assert slot.segments()[0].head.sequence > segment.head.sequence
    assert spool.balance() == Balance(4, 3, 1)


def test_on_a_full_disk_what_is_shipped_is_noted_in_the_room_that_was_kept(tmp_path, monkeypatch):
    spool = Spool(tmp_path / "spool")
    spooler(spool).close()
    (slot,) = spool.slots()
    slot.shipped(Ledger(1, 10))
    kept = slot.folder / "reserve"
    assert kept.stat().st_size > 4_096
    opened = Path.open

    def full(path, mode="r", *rest, **more):
        if "w" in mode and kept.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    slot.shipped(Ledger(2, 20))
    assert slot.ledger() == Ledger(2, 20)
    assert not kept.exists()


def test_a_spool_that_holds_as_much_as_it_may_refuses_and_goes_on_when_there_is_room(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool, max_bytes=40_000)
    kept: list[str] = []

    def fill():
        for n in range(1_000):
            append(writer, f"p{n}")
            kept.append(f"p{n}")

    with pytest.raises(SpoolFull, match="log holds as much as it may; see why"):
        fill()
    assert spool.balance().accepted == len(kept)
    (slot,) = spool.slots()

    def ship():
        for segment in slot.segments():
            if segment.sealed:
                slot.shipped(Ledger(segment.head.sequence, slot.ledger().rows + segment.n_rows))
                segment.path.unlink()

    def taken():
        ship()
        try:
            append(writer, "again")
        except SpoolFull:
            return False
        return True

    wait_for(taken, "there is room again", within_s=30)
    writer.close()


def test_a_reply_can_wait_until_its_record_survives_a_power_cut(tmp_path):
    writer = spooler(Spool(tmp_path / "spool"), fsync_s=0)
    assert writer.immediate
    append(writer, "a")
    durable = threading.Event()
    writer.when_durable(durable.set)
    assert durable.wait(5)
    writer.close()


@pytest.mark.parametrize(("fsync_s", "expected"), [(0.01, [65_536, 65_536, 75_000]), (0, [0] * 3)])
def test_as_much_of_a_segment_is_made_ready_as_the_one_before_lets_expect(
    tmp_path, monkeypatch, fsync_s, expected
):
    made = []

    class Told(SegmentWriter):
        def __init__(self, path, head, n_bytes, n_ready=0, *, reused=False):
            made.append(n_ready)
            super().__init__(path, head, n_bytes, n_ready, reused=reused)

    monkeypatch.setattr("greenroom.log.spooling.SegmentWriter", Told)
    writer = spooler(Spool(tmp_path / "spool"), fsync_s=fsync_s, segment_bytes=2**20)
    writer.append(b"x" * (60_000 - HEAD_BYTES - 8), 0, -1, lambda: b"")
    writer.seal()
    wait_for(lambda: len(made) == 3, "the next segment is ready", within_s=30)
    writer.close()
    assert made == expected


def test_a_spool_keeps_its_id_and_another_one_has_another(tmp_path):
    assert Spool(tmp_path / "a").id == Spool(tmp_path / "a").id
    assert Spool(tmp_path / "a").id != Spool(tmp_path / "b").id


def test_what_is_no_segment_is_set_aside_and_does_not_stop_the_others(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    append(writer, "good")
    writer.close()
    (slot,) = spool.slots()
    (slot.folder / "000000000000.sealed").write_bytes(b"nonsense" * 100)
    assert [type(segment) for segment in slot.segments()] == [Segment]
    assert [path.name for path in slot.damaged()] == ["000000000000.damaged"]
