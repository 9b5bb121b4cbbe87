"""What is private is not in the log: rules of an app and of settings, carried out on rows."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.errors import AppError, SettingsError, VersionUnloadable
from greenroom.gate import Gate
from greenroom.model import Model
from greenroom.payloads.request import RequestType
from greenroom.privacy import Privacy
from greenroom.protocols.array_rows import ArrayRows
from greenroom.redaction import (
    Redactions,
    hashed,
    hashes,
    read_key,
    redactions_of,
)
from greenroom.schema import Column, Schema
from greenroom.settings import ModelSettings, Settings
from greenroom.task import regression

KEY = b"0123456789abcdef"
COLUMNS = (
    Column("customer", "string"),
    Column("age", "integer", nullable=True, minimum=0, maximum=119),
    Column("debt-ratio", request_name="debt_ratio", nullable=True),
    Column("region", "category", categories=("north", "south")),
    Column("since", "date", nullable=True),
    Column("seen", "datetime"),
    Column("member", "boolean"),
)
ROW = {
    "customer": "planted",
    "age": 37,
    "debt_ratio": 0.4444,
    "region": "north",
    "since": "2020-02-29",
    "seen": "2026-11-21T10:00:00Z",
    "member": True,
}


def redaction(**rules):
    found = Redactions({"m": Privacy(**rules)}, KEY).of("m", COLUMNS)
    assert found is not None
    return found


def kept(row=ROW, **rules):
    found = redaction(**rules)
    rows = RequestType.compile(Schema(COLUMNS)).decode(json.dumps(row).encode())
    return found, json.loads(found.body(rows))


def test_a_column_that_is_left_out_is_neither_in_the_rows_nor_among_the_columns():
    found, (row,) = kept(left_out=("customer",))
    assert set(row) == set(ROW) - {"customer"}
    assert "customer" not in [column.name for column in found.columns]


def test_other_columns_stay_what_they_are():
    _, (row,) = kept(left_out=("customer",))
    assert row == {
        **{name: value for name, value in ROW.items() if name != "customer"},
        "seen": "2026-11-21T10:00:00",
    }


def test_a_hashed_column_is_a_string_that_only_the_key_leads_to():
    found, rows = kept([ROW, {**ROW, "since": None, "age": 38}], hashed=("customer", "age"))
    assert [row["customer"] for row in rows] == [hashed(KEY, "planted")] * 2
    assert [row["age"] for row in rows] == [hashed(KEY, "37"), hashed(KEY, "38")]
    by_name = {column.name: column for column in found.columns}
    assert (by_name["age"].kind, by_name["age"].maximum) == ("string", None)
    assert hashed(b"another key of it", "planted") != rows[0]["customer"]


def test_what_is_missing_has_no_hash():
    _, (row,) = kept({**ROW, "age": None, "since": None}, hashed=("age", "since"))
    assert (row["age"], row["since"]) == (None, None)


def test_a_rounded_column_is_a_multiple_of_its_step_and_may_leave_its_range():
    found, (row,) = kept(rounded={"age": 10, "debt-ratio": 0.1})
    assert (row["age"], row["debt_ratio"]) == (40, 0.4)
    by_name = {column.name: column for column in found.columns}
    assert (by_name["age"].kind, by_name["age"].maximum) == ("integer", None)
    _, (row,) = kept({**ROW, "age": 3}, rounded={"age": 2.5})
    assert row["age"] == 2.5


@given(st.floats(-1e9, 1e9), st.sampled_from([0.01, 0.1, 0.25, 1.0, 5.0, 1000.0]))
def test_rounding_moves_a_number_by_half_a_step_at_most(value, step):
    _, (row,) = kept({**ROW, "debt_ratio": value}, rounded={"debt_ratio": step})
    assert abs(row["debt_ratio"] - value) <= step / 2 * (1 + 1e-6) + 1e-6
    assert math.isclose(row["debt_ratio"] / step, round(row["debt_ratio"] / step), abs_tol=1e-6)


def test_the_strictest_of_several_rules_holds():
    _, (row,) = kept(left_out=("customer",), hashed=("customer", "age"), rounded={"age": 10})
    assert "customer" not in row
    assert row["age"] == hashed(KEY, "37")


def test_all_columns_can_be_left_out():
    found, rows = kept([ROW, ROW], left_out=tuple(ROW))
    assert (found.columns, rows) == ((), [{}, {}])


def test_rows_that_came_as_arrays_are_treated_alike():
    rows = RequestType.compile(Schema(COLUMNS)).decode(json.dumps([ROW]).encode())
    arrays = ArrayRows(Schema(COLUMNS), list(rows.columns().values()))
    found = redaction(left_out=("age",), hashed=("customer",))
    assert found.body(arrays) == found.body(rows)


def test_a_number_has_one_hash_however_it_was_written():
    assert hashed(KEY, "42") in list(hashes(KEY, "42.0"))
    assert next(iter(hashes(KEY, "042"))) == hashed(KEY, "042")


def test_settings_add_to_what_an_app_declares_and_take_nothing_back():
    settings = Settings(
        log_hash_key=KEY.decode(),
        models={"m": ModelSettings(log_hash=("customer",), log_round={"debt-ratio": 0.01})},
    )
    declared = {"m": Privacy(left_out=("age",), rounded={"debt-ratio": 0.1})}
    found = redactions_of(settings, declared).of("m", COLUMNS)
    rows = RequestType.compile(Schema(COLUMNS)).decode(json.dumps(ROW).encode())
    (row,) = json.loads(found.body(rows))
    assert "age" not in row
    assert (row["customer"], row["debt_ratio"]) == (hashed(KEY, "planted"), 0.4)


def test_a_model_without_rules_is_kept_whole():
    settings = Settings(models={"m": ModelSettings(serve="Staging")})
    assert redactions_of(settings, {}).of("m", COLUMNS) is None


def test_hashing_without_a_key_is_refused_and_says_how_to_make_one():
    settings = Settings(models={"m": ModelSettings(log_hash=("customer",))})
    with pytest.raises(SettingsError, match="columns of m and has no key; make one with"):
        redactions_of(settings, {})


def test_a_key_comes_from_a_file_and_is_long_enough(tmp_path):
    (tmp_path / "key").write_bytes(KEY + b"\n")
    (tmp_path / "short").write_text("short")
    assert read_key(Settings(home=str(tmp_path), log_hash_key_file="key")) == KEY
    with pytest.raises(SettingsError, match="holds a key of 5 bytes, at least 16"):
        read_key(Settings(home=str(tmp_path), log_hash_key_file="short"))
    with pytest.raises(SettingsError, match="absent cannot be read: No such file"):
        read_key(Settings(home=str(tmp_path), log_hash_key_file="absent"))
    with pytest.raises(SettingsError, match="are both set"):
        read_key(Settings(log_hash_key="x" * 16, log_hash_key_file="key"))


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ({"left_out": ("nobody",)}, "'nobody' is none of the columns customer, age"),
        ({"rounded": {"customer": 1}}, "'customer' is a string and cannot be rounded"),
        ({"rounded": {"age": 0}}, "'age' cannot be rounded to a step of 0"),
    ],
)
def test_a_rule_that_fits_no_column_is_named(rules, problem):
    (found,) = Privacy(**rules).problems(COLUMNS)
    assert found.startswith(problem)
    with pytest.raises(VersionUnloadable, match=r"log_round of models\.m"):
        Redactions({"m": Privacy(**rules)}).check("m", COLUMNS)


def test_an_app_that_declares_a_rule_for_no_column_of_its_own_is_refused():
    with pytest.raises(AppError, match="privacy: 'nobody' is none of the columns"):
        Model(
            name="m",
            task=regression,
            columns=COLUMNS,
            dataset="rows.csv",
            target="y",
            candidates=lambda seed: {},
            gate=Gate("rmse"),
            privacy=Privacy(left_out=("nobody",)),
        )
