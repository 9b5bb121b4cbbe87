"""A file is read again when it is another one, and only then."""

from __future__ import annotations

import pytest

from greenroom.errors import MonitoringError
from greenroom.file_cache import CachedFile


def test_a_file_is_read_once_until_it_is_replaced(tmp_path):
    path, reads = tmp_path / "word", []

    def read(where):
        reads.append(where)
        return where.read_text() if where.exists() else ""

    file = CachedFile(path, read)
    assert [file(), file()] == ["", ""]
    path.write_text("one")
    assert [file(), file()] == ["one", "one"]
    fresh = tmp_path / "fresh"
    fresh.write_text("two")
    fresh.replace(path)
    assert [file(), file()] == ["two", "two"]
    path.unlink()
    assert file() == ""
    assert len(reads) == 4


def test_a_file_that_cannot_be_read_leaves_what_was_known(tmp_path):
    path = tmp_path / "word"

    def read(where):
        text = where.read_text() if where.exists() else "nothing"
        if text == "nonsense":
            raise MonitoringError("it is nonsense")
        return text

    path.write_text("nonsense")
    file = CachedFile(path, read)
    with pytest.raises(MonitoringError):
        file()
    path.write_text("sense")
    assert file() == "sense"
    path.write_text("nonsense")
    assert [file(), file()] == ["sense", "sense"]
