"""Drift of the prediction log: from requests in the spool to a verdict, in the log's own types."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
from benchmarks.monitoring import measure, rows
from drifting import drifted, manifest

from greenroom.evaluation.predictions import Predictions
from greenroom.log.log_reading import Window
from greenroom.log.log_tables import LogTables
from greenroom.log.log_windows import LogWindows
from greenroom.log.shipping import ship_all
from greenroom.monitoring.drift import DriftMeter
from greenroom.monitoring.reference import Reference
from greenroom.payloads.request import RequestType
from greenroom.prediction_id import new_prediction_ids
from greenroom.schema import Schema
from test_shipping import COLUMNS, answers, request, spooled, version

N_ROWS = 400
START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def asked(seed, **changed):
    """Return requests of a column of every kind, as JSON has them."""
    rng = np.random.default_rng(seed)
    return [
        {
            "age": None if rng.random() < 0.05 else int(rng.poisson(40)),
            "income": float(rng.lognormal(7, 1)),
            "region": str(rng.choice(["north", "south"])),
            "since": f"2024-{rng.integers(1, 13):02d}-{rng.integers(1, 28):02d}",
            "seen": (START + dt.timedelta(hours=int(rng.integers(0, 24 * 14)))).isoformat(),
            "member": bool(rng.random() < 0.5),
            "note": str(rng.choice(["a, b", "c", "d"])),
            **changed,
        }
        for _ in range(N_ROWS)
    ]


def reference_of(requests):
    body = json.dumps(requests).encode()
    columns = RequestType.compile(Schema(COLUMNS)).decode(body, max_rows=N_ROWS).columns()
    outputs = {"prediction": np.ones(N_ROWS, np.int64), "probability": np.full(N_ROWS, 0.75)}
    known = Predictions(outputs, (0, 1))
    return Reference(
        manifest=manifest(COLUMNS, "classification", classes=(0, 1)),
        columns=columns,
        y=None,
        predictions=known,
        answers=known,
        held_out=False,
        names={},
        aside={},
    ).in_log()


def drift_of_log(tmp_path, requests):
    half = N_ROWS // 2
    noted = [
        (version(), answers(request(part, new_prediction_ids(half))))
        for part in (requests[:half], requests[half:])
    ]
    tables = LogTables(str(tmp_path / "log"))
    ship_all(spooled(tmp_path, noted[0]), tables)
    windows = LogWindows(tables, spooled(tmp_path, noted[1]))
    with DriftMeter(reference_of(asked(0))) as meter:
        for batch in windows.batches("m", Window(), meter.needed, texts=meter.texts):
            meter.add(batch)
        return meter.drift()


def test_requests_of_the_same_kind_have_not_drifted_in_any_column(tmp_path):
    found = drift_of_log(tmp_path, asked(1))
    assert found.n_current == N_ROWS
    assert {one.verdict for one in (*found.features, *found.predictions)} == {"stable"}


def test_every_column_of_the_log_is_compared_in_its_own_type(tmp_path):
    changed = {
        "age": 70,
        "income": 1.0,
        "region": "north",
        "since": "2024-02-29",
        "seen": "2026-11-07T03:00:00Z",
        "member": True,
        "note": "new",
    }
    for place, (column, value) in enumerate(changed.items()):
        folder = tmp_path / str(place)
        folder.mkdir()
        wanted = [] if column in {"since", "seen"} else [column]
        assert drifted(drift_of_log(folder, asked(1, **{column: value}))) == wanted


def test_the_benchmark_finds_what_it_has_moved(tmp_path, capsys):
    rows.write_version(tmp_path / "version", 2_000)
    rows.write_log(tmp_path / "log", 3_000)
    measure.main(tmp_path / "version", tmp_path / "log")
    found = json.loads(capsys.readouterr().out)
    assert (found["n_rows"], tuple(found["drifted"])) == (3_000, rows.MOVED)
    assert found["peak_mb"] > 0
