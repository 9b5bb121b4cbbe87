"""A real server keeps what it answers: each id that a client got is in the log's table once."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from deltalake import DeltaTable

import builders
from app_versions import fitted, version_of_every_kind
from greenroom.cli import main
from greenroom.log.log_tables import LogTables
from greenroom.log.spool import Spool
from greenroom.redaction import hashed
from greenroom.settings import ModelSettings
from real_server import deployed, served
from waiting import wait_for

pytestmark = pytest.mark.slow


def shipped(home: Path, model: str = "m") -> list[dict]:
    found = LogTables(str(home / "log")).predictions(model)
    return [row for uri in found for row in DeltaTable(uri).to_pyarrow_table().to_pylist()]


def logging_to(home: Path) -> dict:
    return {"log": True, "home": home, "log_ship_interval_s": 0.2}


def test_what_is_asked_by_every_protocol_is_shipped_while_the_server_runs(
    tmp_path, monkeypatch, capsys
):
    rows = builders.numbers()
    fitted(tmp_path / "1", builders.COLUMNS, rows, builders.classifier(rows), builders.labels(rows))
    home = tmp_path / "home"
    with served(deployed(tmp_path / "1"), workers=2, **logging_to(home)) as url:
        single = httpx.post(f"{url}/predict", json={"a": 1.0, "b": 2.0}).json()
        several = httpx.post(f"{url}/predict", json=[{"a": 3.0, "b": n} for n in range(5)]).json()
        scored = {"dataframe_records": [{"a": 5.0, "b": 6.0}]}
        assert httpx.post(f"{url}/invocations", json=scored).status_code == 200
        tensors = [
            {"name": name, "shape": [2], "datatype": "FP64", "data": [7.0, 8.0]} for name in "ab"
        ]
        inferred = httpx.post(f"{url}/v2/models/m/infer", json={"inputs": tensors})
        assert inferred.status_code == 200
        assert httpx.post(f"{url}/predict", json={"a": "one"}).status_code == 422
        wait_for(lambda: len(shipped(home)) == 9, "all predictions are shipped", within_s=20)
        wait_for(
            lambda: not Spool(home / "spool").balance().waiting,
            "the ledger is written",
            within_s=30,
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("GREENROOM_HOME", str(home))
        with pytest.raises(SystemExit) as ended:
            main(("status", "--port", url.rpartition(":")[2]))
        assert ended.value.code == 0
        assert "log: 9 predictions noted, 9 written, 0 waiting\n" in capsys.readouterr().out
    found = {row["prediction_id"]: row for row in shipped(home)}
    assert found[single["prediction_id"]]["a"] == 1.0
    assert found[single["prediction_id"]]["probability"] == single["probability"]
    assert [found[one["prediction_id"]]["b"] for one in several["predictions"]] == [0, 1, 2, 3, 4]
    routes = sorted(row["route"] for row in found.values())
    assert routes == [
        "/invocations",
        *["/predict"] * 6,
        *["/v2/models/{name}/infer"] * 2,
    ]
    assert Spool(home / "spool").balance().accepted == 9


def test_a_native_version_with_every_kind_of_column_is_kept_in_its_own_types(tmp_path):
    directory = version_of_every_kind(tmp_path / "1")
    home = tmp_path / "home"
    with served(deployed(directory), **logging_to(home)) as url:
        asked = {"n": 1, "b": True, "d": "2024-01-15", "s": "001"}
        reply = httpx.post(f"{url}/predict", json=asked)
        assert reply.status_code == 200, reply.text
    # What is left when the server ends is shipped before it has ended.
    (row,) = shipped(home)
    assert (row["n"], row["b"], row["d"].isoformat(), row["s"]) == (1.0, True, "2024-01-15", "001")
    assert json.loads(row["request_body"]) == asked
    assert row["engine"] == "native"


PLANTED = "planted-4f1c77"
KEY = "0123456789abcdef"


def files_with(folder: Path, text: str) -> list[Path]:
    return [
        path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()
    ]


def test_a_value_that_is_private_is_in_no_file_and_no_line_whatever_protocol_brought_it(tmp_path):
    directory = version_of_every_kind(tmp_path / "1")
    home = tmp_path / "home"
    rules = ModelSettings(log_hash=("s",), log_leave_out=("d",), log_round={"n": 1})
    private = {"models": {"m": rules}, "log_hash_key": KEY, "access_log": True}
    asked = {"n": 1.3, "b": True, "d": "2019-07-13", "s": PLANTED}
    tensors = [
        {"name": "n", "shape": [1], "datatype": "FP64", "data": [1.3]},
        {"name": "b", "shape": [1], "datatype": "BOOL", "data": [True]},
        {"name": "d", "shape": [1], "datatype": "BYTES", "data": ["2019-07-13"]},
        {"name": "s", "shape": [1], "datatype": "BYTES", "data": [PLANTED]},
    ]
    lines: list[str] = []
    waits = {**logging_to(home), "log_ship_interval_s": 60.0}
    with served(deployed(directory), said=lines, **private, **waits) as url:
        single = httpx.post(f"{url}/predict", json=asked)
        assert single.status_code == 200, single.text
        assert httpx.post(f"{url}/predict", json=[asked, asked]).status_code == 200
        scored = httpx.post(f"{url}/invocations", json={"dataframe_records": [asked]})
        assert scored.status_code == 200, scored.text
        inferred = httpx.post(f"{url}/v2/models/m/infer", json={"inputs": tensors})
        assert inferred.status_code == 200, inferred.text
        assert Spool(home / "spool").balance().waiting == 5
        waiting = files_with(home, hashed(KEY.encode(), PLANTED))
        assert waiting, "the hash is not in the spool: nothing was looked for"
        assert not files_with(home, PLANTED)
        assert not files_with(home, "2019-07-13")
    rows = shipped(home)
    assert len(rows) == 5
    assert {row["s"] for row in rows} == {hashed(KEY.encode(), PLANTED)}
    assert {row["n"] for row in rows} == {1.0}
    assert all("d" not in row for row in rows)
    assert "2019-07-13" not in str(rows)
    assert PLANTED not in str(rows)
    assert not files_with(home, PLANTED)
    assert lines
    assert PLANTED not in "".join(lines)
