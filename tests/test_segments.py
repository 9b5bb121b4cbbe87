"""Segments: frames that a killed process leaves whole, and files that are cut off or changed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.errors import SpoolCorrupt
from greenroom.log.segments import HEAD_BYTES, Head, Segment, SegmentWriter, seal

HEAD = Head(UUID(int=7), slot=3, sequence=12)
PAYLOADS = st.lists(st.binary(min_size=1, max_size=300), max_size=20)


def written(path: Path, payloads: list[bytes], *, size: int = 65_536) -> SegmentWriter:
    writer = SegmentWriter(path, HEAD, size)
    writer.begin(100)
    for payload in payloads:
        assert writer.append(payload, 1)
    return writer


@given(payloads=PAYLOADS)
def test_what_was_appended_is_read_back_while_it_is_open_and_when_it_is_sealed(
    tmp_path_factory, payloads
):
    path = tmp_path_factory.mktemp("segments") / "1.open"
    writer = written(path, payloads)
    segment = Segment(path)
    assert list(segment.frames()) == payloads
    assert segment.n_rows == len(payloads)
    assert (segment.head.slot, segment.head.sequence, segment.head.rows_before) == (3, 12, 100)
    found = writer.seal()
    assert found.exists() == bool(payloads)
    if payloads:
        assert list(Segment(found).frames()) == payloads
        assert Segment(found).sealed


def test_how_many_it_holds_never_goes_back_for_who_looks_while_it_is_written(tmp_path):
    path = tmp_path / "1.open"
    program = (
        "import sys, time; from pathlib import Path; from test_segments import written;"
        "writer = written(Path(sys.argv[1]), [], size=50_000_000); until = time.monotonic() + 1.0;"
        "print('ready', flush=True);"
        "[writer.append(b'x', 1) for _ in iter(lambda: time.monotonic() < until, False)]"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent) as process:
        assert process.stdout.readline() == b"ready\n"
        seen = [0]
        while process.poll() is None:
            seen.append(Segment(path).n_rows)
    assert process.returncode == 0
    assert seen[-1] > 1_000
    assert seen == sorted(seen)


@settings(deadline=None)  # the disk's, which others use too
@given(payloads=PAYLOADS, cut=st.integers(0, 5_000))
def test_a_segment_that_was_cut_off_anywhere_holds_its_first_whole_frames(
    tmp_path_factory, payloads, cut
):
    path = tmp_path_factory.mktemp("segments") / "1.open"
    found = written(path, [*payloads, b"last"]).seal()
    size = max(HEAD_BYTES, found.stat().st_size - cut)
    os.truncate(found, size)
    kept = list(Segment(found).frames())
    assert kept == [*payloads, b"last"][: len(kept)]
    assert Segment(found).end() <= size


@settings(deadline=None)  # the disk's, which others use too
@given(payloads=st.lists(st.binary(min_size=1), min_size=2, max_size=8), place=st.integers(0, 400))
def test_a_changed_byte_ends_a_segment_and_is_never_given_out(tmp_path_factory, payloads, place):
    path = tmp_path_factory.mktemp("segments") / "1.open"
    found = written(path, payloads).seal()
    data = bytearray(found.read_bytes())
    at = HEAD_BYTES + place % (len(data) - HEAD_BYTES)
    data[at] ^= 0xFF
    found.write_bytes(data)
    kept = list(Segment(found).frames())
    assert len(kept) < len(payloads)
    assert kept == payloads[: len(kept)]


def test_a_frame_without_room_is_refused_and_nothing_of_it_is_kept(tmp_path):
    writer = written(tmp_path / "1.open", [b"a" * 100], size=HEAD_BYTES + 200)
    assert not writer.append(b"b" * 100, 1)
    assert writer.append(b"c" * 80, 1)
    assert list(Segment(writer.seal()).frames()) == [b"a" * 100, b"c" * 80]


def test_what_a_killed_writer_has_appended_is_there_and_can_be_sealed(tmp_path):
    path = tmp_path / "1.open"
    child = (
        "import os, signal, pathlib\n"
        "from uuid import UUID\n"
        "from greenroom.log.segments import Head, SegmentWriter\n"
        f"writer = SegmentWriter(pathlib.Path({str(path)!r}), Head(UUID(int=7), 3, 12), 65536)\n"
        "for n in range(50):\n"
        "    writer.append(b'frame %d' % n, 1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", child], check=False)
    assert ended.returncode == -signal.SIGKILL
    found = seal(path, 50)
    assert found is not None
    assert list(Segment(found).frames()) == [b"frame %d" % n for n in range(50)]
    assert found.stat().st_size < 4_096


def test_an_empty_segment_is_removed_when_it_is_sealed(tmp_path):
    writer = SegmentWriter(tmp_path / "1.open", HEAD, 4_096)
    writer.seal()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n_ready", [1, 65_536, 70_000, 10**9])
def test_what_is_made_ready_of_a_segment_changes_nothing_of_what_it_holds(tmp_path, n_ready):
    writer = SegmentWriter(tmp_path / "1.open", HEAD, 100_000, n_ready)
    assert writer.path.stat().st_size == 100_000
    writer.begin(100)
    while writer.append(b"frame"):
        pass
    found = Segment(writer.seal())
    assert set(found.frames()) == {b"frame"}
    assert found.head.rows_before == 100


def test_a_disk_without_room_is_noticed_when_the_segment_is_made(tmp_path):
    with pytest.raises(OSError, match=r"space|large"):
        SegmentWriter(tmp_path / "1.open", HEAD, 2**60)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_segment_is_named(tmp_path):
    path = tmp_path / "1.sealed"
    path.write_bytes(b"x" * 500)
    with pytest.raises(SpoolCorrupt, match=r"1\.sealed is no segment"):
        Segment(path)


def test_a_segment_of_a_later_format_is_left_to_a_later_greenroom(tmp_path):
    found = written(tmp_path / "1.open", [b"a"]).seal()
    data = bytearray(found.read_bytes())
    data[8] = 9
    found.write_bytes(data)
    with pytest.raises(SpoolCorrupt, match="has format 9, this Greenroom reads up to 1"):
        Segment(found)
