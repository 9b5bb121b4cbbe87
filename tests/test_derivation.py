"""Rows made of what a file holds: what the app's function is given, and what becomes of errors."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from greenroom import Column, Gate, Model, Split, regression
from greenroom.data.derivation import as_context, context_hash, derive
from greenroom.errors import AppError, DataError
from greenroom.training.dataset import load_dataset


def daily(table):
    """Add up the amounts of each day, which the file spells the American way."""
    month, day, year = np.array([text.split("/") for text in table["when"]]).T
    days = np.array([f"{y}-{m}-{d}" for y, m, d in zip(year, month, day, strict=True)])
    known, place = np.unique(days, return_inverse=True)
    sums = np.bincount(place, [float(text) for text in table["amount"]])
    return {"day": known.astype("datetime64[D]"), "total": sums, "spare": sums}


def latest(table):
    return {"amount": np.array([float(text) for text in table["amount"]])[-2:]}


def model(**changes):
    values = {
        "name": "m",
        "task": regression,
        "columns": (Column("day", "date"),),
        "target": "total",
        "dataset": "rows.csv",
        "rows": daily,
        "candidates": lambda _: {},
        "gate": Gate("r2_score"),
    }
    return Model(**(values | changes))


FORECAST = {
    "features": "features.py",
    "request": (Column("days", "integer"),),
    "context": latest,
}


def write(folder, text="when,amount\n01/15/2024,2\n01/16/2024,5\n01/15/2024,3.5\n"):
    (folder / "rows.csv").write_text(text, encoding="utf-8")


def test_an_apps_function_makes_the_rows_and_the_target_of_what_the_file_holds(tmp_path):
    write(tmp_path)

    data = load_dataset(model(), tmp_path)

    assert data.columns["day"].astype("datetime64[D]").astype(str).tolist() == [
        "2024-01-15",
        "2024-01-16",
    ]
    assert data.target.tolist() == [5.5, 5.0]
    assert (data.n_rows, data.ignored, data.context) == (2, ("spare",), {})


def test_the_same_function_makes_rows_of_generated_data(tmp_path):
    table = {"when": ["01/15/2024", "02/15/2024"], "amount": ["1", "2"]}

    data = load_dataset(model(generated=lambda _: table), tmp_path, generated=True)

    assert data.target.tolist() == [1.0, 2.0]
    assert data.generated


def test_what_the_function_made_is_checked_against_the_columns(tmp_path):
    write(tmp_path)
    made = model(rows=lambda _: {"day": ["2024-01-15", "soon"], "total": [1, 2]})

    with pytest.raises(DataError, match=r"column 'day': 1 value .* \(made row 2\)"):
        load_dataset(made, tmp_path)
    with pytest.raises(DataError, match="no column 'total'"):
        load_dataset(model(rows=lambda _: {"day": ["2024-01-15"]}), tmp_path)


def test_a_context_is_made_of_the_same_table_and_is_a_part_of_the_fingerprint(tmp_path):
    write(tmp_path)
    without = load_dataset(model(), tmp_path)

    data = load_dataset(model(**FORECAST), tmp_path)
    write(tmp_path, "when,amount\n01/15/2024,2\n01/15/2024,3.5\n01/16/2024,5\n")
    other = load_dataset(model(**FORECAST), tmp_path)

    assert data.context["amount"].tolist() == [5.0, 3.5]
    assert other.target.tolist() == data.target.tolist()
    assert len({without.content_hash, data.content_hash, other.content_hash}) == 3


def test_a_file_that_lacks_a_column_which_the_function_asks_for_is_refused_by_its_name(tmp_path):
    write(tmp_path, "when,sum\n01/15/2024,2\n")

    with pytest.raises(DataError, match=r"no column 'amount' \(there are: when, sum\)"):
        load_dataset(model(), tmp_path)


def test_only_a_value_error_is_quoted_because_it_is_the_apps_own_word():
    def speaks(_):
        raise ValueError("column 'when': row 3 is no date")

    def breaks(_):
        raise TypeError("4711 is private")

    table = {"a": pa.array(["4711"])}
    with pytest.raises(DataError, match="column 'when': row 3 is no date"):
        derive(speaks, table, "f.csv")
    with pytest.raises(
        DataError, match=r"^dataset f.csv: breaks fails on it: TypeError"
    ) as refused:
        derive(breaks, table, "f.csv")
    assert "4711" not in str(refused.value)
    with pytest.raises(DataError, match="made list"):
        derive(lambda _: [], table, "f.csv")


def test_a_function_is_given_texts_as_they_stand_and_none_where_nothing_stands():
    table = {"a": pa.array(["001", None]), "b": pa.chunked_array([[1], [2]])}

    made = derive(lambda table: table, table, "f")

    assert made["a"].tolist() == ["001", None]
    assert made["b"].tolist() == [1, 2]


def test_a_context_holds_numbers_texts_and_instants():
    days = np.array(["2024-01-15"], dtype="datetime64[D]")
    context = as_context({"n": [1], "t": ["a"], "o": np.array([None], object), "d": days}, "f")

    assert {name: str(values.dtype) for name, values in context.items()} == {
        "n": "float64",
        "t": "object",
        "o": "object",
        "d": "datetime64[us]",
    }
    assert context_hash(context) != context_hash({**context, "n": np.array([2.0])})
    for wrong in ([[1.0]], [object()]):
        with pytest.raises(DataError, match="column 'x' of the context"):
            as_context({"x": np.array(wrong)}, "f")


def test_a_context_without_a_request_and_records_in_a_row_of_data_are_refused():
    records = Column("history", "records", columns=(Column("a"),))
    with pytest.raises(AppError, match="context: is for expand"):
        model(context=latest)
    with pytest.raises(AppError, match="'history' is of kind 'records'"):
        model(columns=(Column("day", "date"), records), split=Split(time="day"))
