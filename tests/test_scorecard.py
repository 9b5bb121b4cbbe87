"""Scorecards: a training's figures as Markdown, put into a place of a README."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from greenroom import Column, Gate, Model, Split, regression
from greenroom.errors import AppError
from greenroom.training.baselines import Baseline
from greenroom.training.cross_validation import CandidateScores
from greenroom.training.scorecard import Scorecards, scorecard
from greenroom.training.training import Trained

README = """# An app

<!-- figures of rent -->
<!-- end of figures of rent -->

The rest.
"""
RMSE = "root_mean_squared_error"


def _scores(name: str, error: float) -> CandidateScores:
    return CandidateScores(name, {RMSE: error, "r2_score": 0.5}, {RMSE: 12.3456, "r2_score": 0.01})


def _trained(*, generated: bool = False, split: Split = Split()) -> Trained:  # noqa: B008 - frozen
    model = Model(
        name="rent",
        task=regression,
        columns=(Column("rooms"),),
        dataset="rent.csv",
        target="rent",
        candidates=lambda _: {},
        gate=Gate(RMSE),
        split=split,
    )
    data = SimpleNamespace(name="rent.csv", n_rows=1000, generated=generated)
    return Trained(
        model,
        "",
        None,
        manifest=SimpleNamespace(data=data, n_train=790, n_holdout=210),
        fitted=SimpleNamespace(
            candidate="tree", metrics={RMSE: 1234.5, f"{RMSE}_low": 1100.0, f"{RMSE}_high": 1300.0}
        ),
        scores=[_scores("line", 2000.0), _scores("tree", 1200.0)],
        baselines=[Baseline(_scores("mean of the target", 5000.0), {RMSE: 5100.0})],
        tags={"greenroom.runtime": "compiled"},
    )


def test_a_scorecard_has_every_candidate_beside_the_baseline():
    lines = scorecard(_trained()).splitlines()

    assert "| candidate | root_mean_squared_error | r2_score |" in lines
    assert "| mean of the target (baseline) | 5,000 ± 12.35 | 0.5000 ± 0.0100 |" in lines
    assert "| line | 2,000 ± 12.35 | 0.5000 ± 0.0100 |" in lines
    assert "| **tree** (chosen) | 1,200 ± 12.35 | 0.5000 ± 0.0100 |" in lines


def test_a_scorecard_has_the_hold_out_its_size_the_seed_and_the_runtime():
    text = scorecard(_trained())

    assert "seed 42" in text
    assert "5 folds of the 790 training rows" in text
    assert "On the 210 held-out rows (20 % of all, by a hash of the row)" in text
    assert "served compiled" in text
    assert "| root_mean_squared_error | 5,100 | 1,234 | 1,100 to 1,300 |" in text


def test_a_scorecard_says_how_rows_were_held_out_and_that_data_are_generated():
    text = scorecard(_trained(generated=True, split=Split(holdout=0.1, time="rooms")))

    assert "**generated data**" in text
    assert "10 % of all, the latest by `rooms`" in text


def test_writing_replaces_what_stands_between_the_marks_and_nothing_else(tmp_path: Path):
    path = tmp_path / "README.md"
    path.write_text(README)
    cards = Scorecards(path, ["rent"])

    cards.write(_trained())
    once = path.read_text()
    cards.write(_trained())

    assert path.read_text() == once
    assert once.startswith("# An app\n\n<!-- figures of rent -->\n\n`rent` on `rent.csv`")
    assert once.endswith("\n<!-- end of figures of rent -->\n\nThe rest.\n")


def test_a_file_without_a_place_is_refused_before_anything_is_trained(tmp_path: Path):
    path = tmp_path / "README.md"
    path.write_text(README)

    with pytest.raises(AppError, match="no place for the figures of 'other'") as caught:
        Scorecards(path, ["rent", "other"])
    assert "<!-- figures of other -->" in caught.value.advice


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(AppError, match="cannot be read as text"):
        Scorecards(tmp_path / "README.md", ["rent"])
