"""Spares: files of shipped segments that are used again, and nobody reads what they held."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.errors import SpoolFull
from greenroom.log.log_tables import LogTables
from greenroom.log.segments import HEAD_BYTES, Head, Segment, SegmentWriter
from greenroom.log.shipping import ship_all
from greenroom.log.spares import MAX_SPARES, Spares
from greenroom.log.spool import Balance, Spool
from test_spooling import append, ids_in, spooler
from waiting import wait_for

SIZE = 8_192


class Killed(BaseException):
    """Stands for the end of the process."""


def names(folder: Path, suffix: str) -> list[str]:
    return sorted(path.stem for path in folder.glob(f"*{suffix}"))


def sealed(folder: Path, number: int, n_bytes: int = 100) -> Path:
    path = folder / f"{number:012d}.sealed"
    path.write_bytes(b"secret" * n_bytes)
    return path


def kill(*_: object) -> None:
    raise Killed


def wait_sealed(spool: Spool) -> None:
    wait_for(lambda: list(spool.folder.glob("*/*.sealed")), "a segment is sealed", within_s=30)


def test_the_file_of_a_shipped_segment_is_used_again_by_its_writer(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    (slot,) = spool.slots()
    first = slot.path(1).stat().st_ino
    for number in range(4):
        append(writer, f"turn-{number}")
        writer.seal()
        wait_sealed(spool)
        ship_all(spool, LogTables(str(tmp_path / "log")))
        wait_for(lambda: len(names(slot.folder, ".open")) == 2, "one is ready", within_s=30)
    files = {path.stat().st_ino for path in slot.folder.iterdir()}
    assert first in files
    assert spool.balance() == Balance(4, 4, 0)
    writer.close()


def test_a_spare_holds_nothing_of_what_it_held(tmp_path):
    spares = Spares(tmp_path)
    spares.add(sealed(tmp_path, 7))
    (spare,) = tmp_path.iterdir()
    assert spare.name == "000000000007.spare"
    assert spare.read_bytes() == bytes(600)
    assert spares.n_bytes() == 600


def test_the_file_of_a_writer_that_is_gone_is_removed(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    append(writer, "one")
    writer.close()
    (slot,) = spool.slots()
    ship_all(spool, LogTables(str(tmp_path / "log")))
    assert names(slot.folder, ".spare") == names(slot.folder, ".sealed") == []
    slot.spares.add(sealed(slot.folder, 99))
    spool.seal_leftovers()
    assert names(slot.folder, ".spare") == []


def test_no_more_spares_are_kept_than_a_few_seconds_of_load_need(tmp_path):
    spares = Spares(tmp_path)
    for number in range(MAX_SPARES + 3):
        spares.add(sealed(tmp_path, number))
    assert len(list(tmp_path.iterdir())) == MAX_SPARES
    assert names(tmp_path, ".spare")[-1] == f"{MAX_SPARES - 1:012d}"


def test_a_disk_without_room_for_zeros_gets_the_room_of_the_file(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.pwrite", full)
    Spares(tmp_path).add(sealed(tmp_path, 1))
    assert list(tmp_path.iterdir()) == []


def test_without_a_spare_nothing_is_taken(tmp_path):
    assert not Spares(tmp_path).take(tmp_path / "1.open")
    assert list(tmp_path.iterdir()) == []


def test_a_spare_that_goes_while_it_is_taken_is_not_missed(tmp_path, monkeypatch):
    spares = Spares(tmp_path)
    for number in (1, 2):
        spares.add(sealed(tmp_path, number))
    there = sorted(tmp_path.glob("*.spare"))
    monkeypatch.setattr(Spares, "_paths", lambda *_: iter(there))
    there[0].unlink()
    assert spares.take(tmp_path / "9.open")
    assert [path.name for path in tmp_path.iterdir()] == ["9.open"]


@pytest.mark.parametrize("killed_at", ["renamed", "emptied"])
def test_whoever_is_killed_while_a_file_is_emptied_leaves_no_spare(
    tmp_path, monkeypatch, killed_at
):
    spares = Spares(tmp_path)
    step = {"renamed": "greenroom.log.spares.sync_folder", "emptied": "os.fdatasync"}[killed_at]
    segment = sealed(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(step, kill)
        with pytest.raises(Killed):
            spares.add(segment)
    assert names(tmp_path, ".sealed") == names(tmp_path, ".spare") == []
    assert not spares.take(tmp_path / "2.open")
    spares.add(sealed(tmp_path, 3))
    assert [path.name for path in tmp_path.iterdir()] == ["000000000003.spare"]


def test_a_shipper_that_is_killed_while_it_empties_a_file_has_shipped_it_once(
    tmp_path, monkeypatch
):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    append(writer, "one", 3)
    writer.seal()
    wait_sealed(spool)
    tables = LogTables(str(tmp_path / "log"))
    with monkeypatch.context() as patch:
        patch.setattr("greenroom.log.spares._empty", kill)
        with pytest.raises(Killed):
            ship_all(spool, tables)
    assert spool.balance() == Balance(3, 3, 0)
    append(writer, "two")
    writer.close()
    ship_all(Spool(tmp_path / "spool"), tables)
    assert spool.balance() == Balance(4, 4, 0)
    (uri,) = tables.predictions("m")
    assert tables.open(uri).to_pyarrow_table().num_rows == 4
    (slot,) = spool.slots()
    assert names(slot.folder, ".emptying") == names(slot.folder, ".spare") == []


def test_spares_give_way_where_the_spool_may_not_take_more(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool, max_bytes=5 * SIZE)
    (slot,) = spool.slots()
    for number in range(100, 104):
        slot.spares.add(sealed(slot.folder, number, SIZE // 6))
    assert spool.n_bytes() == 2 * SIZE, "spares hold no predictions, and are not among those"
    assert spool.n_spare_bytes() == 4 * (SIZE // 6 * 6)
    with pytest.raises(SpoolFull):
        list(map(partial(append, writer), map(str, range(1_000))))
    assert spool.n_bytes() > 3 * SIZE, "the room of the spares was had first"
    assert spool.n_spare_bytes() == 0
    writer.close()


def test_who_reads_a_segment_is_told_that_it_was_let_go_of_meanwhile(tmp_path, monkeypatch):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    append(writer, "one")
    writer.seal()
    wait_sealed(spool)
    (slot,) = spool.slots()
    segment = next(one for one in slot.segments() if one.sealed)
    read, let_go = Path.read_bytes, []

    def read_late(path: Path) -> bytes:
        if path == segment.path and not let_go:
            let_go.append(slot.let_go(segment))
            return bytes(100)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_late)
    with pytest.raises(FileNotFoundError):
        list(segment.frames())
    writer.close()


def test_a_file_that_is_another_segment_by_now_is_not_taken_for_the_one_it_was(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = spooler(spool)
    append(writer, "one")
    writer.seal()
    wait_sealed(spool)
    (slot,) = spool.slots()
    os.link(next(slot.folder.glob("*.sealed")), slot.folder / "000000000077.sealed")
    assert ids_in(spool) == ["one-0"]
    writer.close()


@settings(deadline=None)
@given(
    n_before=st.integers(HEAD_BYTES, 3 * SIZE),
    n_ready=st.integers(0, 2 * SIZE),
    payloads=st.lists(st.binary(min_size=1, max_size=300), max_size=20),
)
def test_a_segment_reads_the_same_whatever_size_the_file_had_that_it_was_made_of(
    tmp_path_factory, n_before, n_ready, payloads
):
    folder = tmp_path_factory.mktemp("spares")
    path = folder / "1.open"
    old = folder / "0.sealed"
    old.write_bytes(os.urandom(n_before))
    spares = Spares(folder)
    spares.add(old)
    assert spares.take(path)
    head = Head(UUID(int=7), slot=1, sequence=1)
    writer = SegmentWriter(path, head, SIZE, n_ready, reused=True)
    assert path.stat().st_size == SIZE
    for payload in payloads:
        assert writer.append(payload, 1)
    found = Segment(path)
    assert (list(found.frames()), found.n_rows) == (payloads, len(payloads))
    writer.seal()
