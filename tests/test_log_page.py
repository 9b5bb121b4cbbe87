"""What the page about the prediction log says of reading it runs, on a table that was shipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from greenroom.log.log_rows import COMMON
from greenroom.log.log_tables import LogTables
from greenroom.log.shipping import ship_all
from greenroom.prediction_id import new_prediction_ids
from test_shipping import ROW, answers, request, spooled, version

PAGE = (Path(__file__).parent.parent / "docs" / "prediction-log.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noted = (version(), answers(request([ROW, ROW], new_prediction_ids(2))))
    ship_all(spooled(tmp_path, noted), LogTables(str(tmp_path / ".greenroom" / "log")))


@pytest.mark.parametrize("block", BLOCKS, ids=["duckdb", "polars"])
def test_the_log_is_read_as_the_page_says(shipped, block, capsys):
    exec(compile(block, "page", "exec"), {})
    out = capsys.readouterr().out
    assert "2026-11-21" in out
    assert "0.75" in out


def test_every_column_that_is_always_there_stands_in_the_page():
    assert [name for name in COMMON.names if f"`{name}`" not in PAGE] == []
