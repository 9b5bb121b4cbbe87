"""The trend: runs are kept in their order, and an unfinished line harms none but itself."""

from __future__ import annotations

import msgspec
from made_up import found

from greenroom.monitoring import trend
from greenroom.monitoring.trend import Trend, point_of


def at(hour, **changes):
    return point_of(found(at=f"2026-11-21T{hour:02}:00:00Z", **changes))


def test_the_runs_of_a_version_on_one_source_are_put_side_by_side(tmp_path):
    kept = Trend(tmp_path / "monitoring" / "trend.jsonl")
    kept.add([at(1), at(1, model="other")])
    kept.add([at(2), at(2, version="4"), at(2, source="data/current.csv")])
    assert [point.at[11:13] for point in kept.of(found())] == ["01", "02"]
    assert kept.of(found())[0].measures["drift/age/psi"] == 0.31


def test_a_line_that_was_cut_off_is_left_out_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / "trend.jsonl"
    kept = Trend(path)
    kept.add([at(1)])
    with path.open("ab") as file:
        file.write(msgspec.json.encode(at(2))[:40])
    kept.add([at(3)])
    assert [point.at[11:13] for point in kept.points()] == ["01", "03"]


def test_of_each_model_the_last_runs_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(trend, "KEPT", 3)
    monkeypatch.setattr(trend, "_SLACK", 2)
    kept = Trend(tmp_path / "trend.jsonl")
    kept.add([at(0, model="rare")])
    for hour in range(1, 11):
        kept.add([at(hour)])
    points = kept.points()
    assert points[0].model == "rare"
    assert len(points) <= 3 + 2
    assert points[-1].at[11:13] == "10"
