"""A real server keeps what it answers: each id that a client got is in the log's table once."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
from deltalake import DeltaTable

import builders
from app_versions import fitted, version_of_every_kind
from greenroom.log_tables import LogTables
from greenroom.spool import Spool
from real_server import deployed, served
from waiting import wait_for


def shipped(home: Path, model: str = "m") -> list[dict]:
    found = LogTables(str(home / "log")).predictions(model)
    return [row for uri in found for row in DeltaTable(uri).to_pyarrow_table().to_pylist()]


def logging_to(home: Path) -> dict:
    return {"log": True, "home": home, "log_ship_interval_s": 0.2}


def test_what_is_asked_by_every_protocol_is_shipped_while_the_server_runs(tmp_path):
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
