"""Requests: what is decoded, what is refused, and that everything bad is named."""

from __future__ import annotations

import json
import re
from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from greenroom.errors import RequestError, RequestInvalid, RequestMalformed, VersionUnloadable
from greenroom.payloads.refusal import LARGEST_INTEGER, MAX_LISTED, MAX_RECORDS, explain
from greenroom.payloads.request import MAX_ROWS, RequestType, Rows
from greenroom.schema import Column, Schema

EVERY_KIND = Schema(
    (
        Column("n", "number", minimum=-1.5, maximum=1e6, unit="USD"),
        Column("maybe-n", "number", request_name="maybe n", nullable=True),
        Column("i", "integer", minimum=0, maximum=120),
        Column("free_i", "integer", nullable=True),
        Column("b", "boolean", nullable=True),
        Column("s", "string"),
        Column("maybe_s", "string", nullable=True),
        Column("c", "category", categories=("low", "high")),
        Column("d", "date", nullable=True),
        Column("t", "datetime", nullable=True),
    )
)
GOOD = {"n": 1.5, "i": 40, "s": "001", "c": "low"}
REQUESTS = RequestType.compile(EVERY_KIND)
NUMERIC = RequestType.compile(
    Schema((Column("a"), Column("b-c", request_name="b_c", nullable=True), Column("d", "boolean")))
)


def problems(body, requests=REQUESTS, **limits):
    """Decode what must be refused; return ``field problem`` for each row and field."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(RequestInvalid) as caught:
        requests.decode(raw, **limits)
    return {(row, field): problem for row, field, problem in caught.value.problems}


def columns(body, requests=REQUESTS):
    return requests.decode(json.dumps(body).encode()).columns()


# What is taken


@given(
    st.lists(
        st.tuples(
            st.fixed_dictionaries(
                {"n": st.floats(-1, 1e6), "s": st.text()},
                optional={"b": st.booleans(), "maybe_s": st.none() | st.text()},
            ),
            st.sampled_from(["", " ", "\n"]),
        ),
        min_size=1,
    )
)
@settings(max_examples=50, deadline=None)
def test_bodies_that_are_read_again_together_are_the_rows_that_each_was(drawn):
    bodies = [f"{space}{json.dumps({**GOOD, **row})}{space}".encode() for row, space in drawn]
    again = REQUESTS.decode_again(bodies).columns()
    each = Rows.joined([REQUESTS.decode(body) for body in bodies]).columns()
    for name, values in each.items():
        np.testing.assert_array_equal(again[name], values)


def test_a_body_that_was_never_taken_is_not_taken_among_others_either():
    with pytest.raises(RequestInvalid):
        REQUESTS.decode_again([json.dumps(GOOD).encode(), b'{"n": 1}'])


@pytest.mark.parametrize(
    ("body", "n_rows", "single"),
    [(GOOD, 1, True), ([GOOD], 1, False), ([GOOD, GOOD], 2, False), ({"instances": [GOOD]}, 1, 0)],
)
def test_a_row_a_list_and_instances_are_the_three_outlines(body, n_rows, single):
    rows = REQUESTS.decode(json.dumps(body).encode())
    assert (rows.n_rows, rows.single) == (n_rows, single)


def test_columns_come_in_the_schemas_order_under_the_names_of_the_data():
    assert tuple(columns(dict(reversed(GOOD.items())))) == EVERY_KIND.names


def test_a_left_out_value_and_a_null_are_both_missing():
    left_out = columns(GOOD)
    null = columns({**GOOD, **dict.fromkeys(("maybe n", "b", "maybe_s", "d", "t"))})
    for got in (left_out, null):
        assert np.isnan(got["maybe-n"][0])
        assert np.isnan(got["b"][0])
        assert got["maybe_s"][0] is None
        assert np.isnat(got["d"][0])
        assert np.isnat(got["t"][0])


def test_every_kind_has_its_array_type():
    got = columns({**GOOD, "b": True, "d": "2024-02-29", "t": "2024-01-15T10:30:00+02:00"})
    assert got["n"].dtype == got["i"].dtype == got["b"].dtype == np.float64
    assert got["s"].dtype == got["c"].dtype == object
    assert got["d"].dtype == got["t"].dtype == "datetime64[us]"
    assert got["b"][0] == 1.0
    assert got["d"][0] == np.datetime64("2024-02-29")
    assert got["t"][0] == np.datetime64("2024-01-15T08:30:00")


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1970-01-01T00:00:00", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1970-01-01 00:00:00", 0),
        ("1969-12-31T23:59:59Z", -1_000_000),
        ("0001-01-01T00:00:00-14:00", -62_135_596_800_000_000 + 14 * 3_600_000_000),
        ("9999-12-31T23:59:59", 253_402_300_799_000_000),
    ],
)
def test_a_date_and_time_without_a_zone_is_utc_and_any_zone_is_converted(text, microseconds):
    assert columns({**GOOD, "t": text})["t"][0].astype(int) == microseconds


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:30:00-01:00"])
def test_a_date_and_time_that_has_no_date_in_utc_is_refused(text):
    past = Schema((Column("past", "records", columns=(Column("at", "datetime"),)),))
    requests, said = RequestType.compile(past), "is outside the years 1 to 9999 in UTC"

    assert problems({**GOOD, "t": text}) == {(0, "t"): said}
    assert problems({"past": [{"at": text}]}, requests) == {(0, "past[0].at"): said}


def test_strings_stay_strings():
    assert columns({**GOOD, "s": "001"})["s"][0] == "001"


@pytest.mark.parametrize("written", ["40", "40.0", "4e1", "4.0E+1"])
def test_an_integer_may_be_written_in_every_way_json_has(written):
    body = json.dumps(GOOD).replace("40", written).encode()
    assert REQUESTS.decode(body).columns()["i"][0] == 40.0


def test_a_numeric_schema_becomes_a_matrix_with_nan_for_what_is_missing():
    rows = NUMERIC.decode(
        b'[{"d":true,"a":1,"b_c":null},{"a":2,"d":false},{"a":3,"b_c":4,"d":true}]'
    )
    np.testing.assert_array_equal(
        rows.matrix(), [[1.0, np.nan, 1.0], [2.0, np.nan, 0.0], [3.0, 4.0, 1.0]]
    )
    np.testing.assert_array_equal(rows.matrix()[:, 1], rows.columns()["b-c"])
    assert NUMERIC.numeric
    assert not REQUESTS.numeric


@pytest.mark.parametrize(
    "name", ["with space", "hy-phen", "class", "ünïcode", "it's", "a:b", "_", "f0"]
)
def test_a_field_may_have_any_name(name):
    requests = RequestType.compile(Schema((Column("x", request_name=name),)))
    assert columns({name: 2.5}, requests)["x"][0] == 2.5
    assert problems({}, requests) == {(0, name): "is missing"}


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "line\nbreak"])
def test_a_name_that_the_fast_reader_cannot_match_is_refused_when_the_type_is_compiled(name):
    with pytest.raises(VersionUnloadable, match="give the column a request_name"):
        RequestType.compile(Schema((Column(name),)))
    assert RequestType.compile(Schema((Column(name, request_name="x"),))).numeric


def test_a_column_called_instances_is_a_field_like_any_other():
    requests = RequestType.compile(Schema((Column("instances"),)))
    assert requests.decode(b'{"instances": 3}').single
    assert problems({"instances": [3]}, requests) == {
        (0, "instances"): "must be a number, not a list"
    }


def test_a_thousand_columns_are_decoded():
    schema = Schema(tuple(Column(f"column {number}") for number in range(1_000)))
    body = json.dumps({f"column {number}": number for number in range(1_000)}).encode()
    matrix = RequestType.compile(schema).decode(body).matrix()
    np.testing.assert_array_equal(matrix, [np.arange(1_000.0)])


def test_space_around_the_body_is_nothing():
    assert NUMERIC.decode(b' \r\n\t[{"a": 1, "d": true}] \n').n_rows == 1


# What is refused, by name


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("n", "1.5", "must be a number, not a string"),
        ("n", True, "must be a number, not a boolean"),
        ("n", [1], "must be a number, not a list"),
        ("n", {"x": 1}, "must be a number, not an object"),
        ("n", None, "must not be null"),
        ("n", -1.6, "is below the minimum, -1.5 USD"),
        ("n", 1e6 + 1, "is above the maximum, 1e+06 USD"),
        ("n", float("nan"), "is not finite"),
        ("n", float("inf"), "is not finite"),
        ("maybe n", float("-inf"), "is not finite"),
        ("i", 40.5, "must be a whole number"),
        ("i", -1, "is below the minimum, 0"),
        ("i", 121, "is above the maximum, 120"),
        ("free_i", 2**53, "is too large for an integer that is kept exactly"),
        ("free_i", -(2**53) - 1, "is too large for an integer that is kept exactly"),
        ("free_i", 10**30, "is too large for an integer that is kept exactly"),
        ("free_i", 10**401, "is not finite"),
        ("maybe n", 10**309, "is not finite"),
        ("b", 1, "must be true or false"),
        ("b", "true", "must be true or false"),
        ("s", 1, "must be a string"),
        ("maybe_s", ["a"], "must be a string"),
        ("c", "middle", "must be one of low, high"),
        ("c", 1, "must be one of low, high"),
        ("d", "2024-02-30", "must be a date, such as 2024-01-15"),
        ("d", "2024-01-15T00:00:00", "must be a date, such as 2024-01-15"),
        ("d", 20240115, "must be a date, such as 2024-01-15"),
        ("t", "2024-01-15", "must be a date and time, such as 2024-01-15T10:30:00Z"),
        ("other", 1, "is unknown"),
    ],
)
def test_a_bad_field_is_named_with_what_is_wrong(field, value, problem):
    assert problems({**GOOD, field: value}) == {(0, field): problem}


@pytest.mark.parametrize("digits", [4_299, 4_301, 100_000])
def test_an_integer_of_thousands_of_digits_is_refused_by_name(digits):
    body = json.dumps(GOOD).replace("40", "4" * digits).encode()
    assert problems(body) == {(0, "i"): "is not finite"}


@pytest.mark.parametrize("value", [LARGEST_INTEGER, -LARGEST_INTEGER])
def test_the_largest_exact_integer_is_taken(value):
    assert columns({**GOOD, "free_i": value})["free_i"][0] == value


def test_every_bad_field_of_every_row_is_named_at_once():
    body = [GOOD, {"n": "x", "i": 3.5, "c": "low", "zzz": 1}, 7, {**GOOD, "i": 500}]
    assert problems(body) == {
        (1, "n"): "must be a number, not a string",
        (1, "i"): "must be a whole number",
        (1, "s"): "is missing",
        (1, "zzz"): "is unknown",
        (2, ""): "is not an object with fields",
        (3, "i"): "is above the maximum, 120",
    }


def test_the_message_says_the_first_problems_and_counts_the_others():
    with pytest.raises(RequestInvalid) as caught:
        REQUESTS.decode(b'{"zzz": 1}')
    assert caught.value.message == "n is missing; i is missing; s is missing; and 2 more"
    with pytest.raises(RequestInvalid, match="row 1: a is missing"):
        NUMERIC.decode(b'[{"a": 1, "d": true}, {"d": true}]')


def test_the_list_of_problems_is_cut_and_the_rest_is_counted():
    with pytest.raises(RequestInvalid) as caught:
        NUMERIC.decode(json.dumps([{}] * 200).encode())
    assert len(caught.value.problems) == MAX_LISTED
    assert "and 397 more" in caught.value.message
    with pytest.raises(RequestInvalid, match="and at least 9997 more"):
        NUMERIC.decode(json.dumps([{}] * MAX_ROWS).encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 2, "d": true}',
        b'{"a": 1, "d": true, "a": "x"}',
        rb'{"a": 1, "\u0061": 2, "d": true}',
        b'{"a": 1, "a": 2, "b_c": null, "d": true}',
    ],
)
def test_a_field_that_is_given_twice_is_named(body):
    assert problems(body, NUMERIC)[(0, "a")] == "is given twice"


def test_a_repeated_field_is_found_where_strings_hold_colons_and_quotes():
    body = json.dumps({**GOOD, "s": '": "n": \\'}).encode()
    assert REQUESTS.decode(body).columns()["s"][0] == '": "n": \\'
    assert problems(body[:-1] + b', "n": 1.5}') == {(0, "n"): "is given twice"}


def test_instances_given_twice_are_refused():
    body = b'{"instances": [{"a": 1, "d": true}], "instances": [{"a": 1, "d": true}]}'
    assert problems(body, NUMERIC) == {(0, "instances"): "is given twice"}


@pytest.mark.parametrize("body", [b"[]", b" [ ] ", b'{"instances": []}'])
def test_a_list_without_rows_is_invalid(body):
    with pytest.raises(RequestInvalid, match="the list of rows is empty"):
        REQUESTS.decode(body)


def test_more_rows_than_allowed_are_refused_whether_they_are_good_or_not():
    good = json.dumps([{"a": 1, "d": True}] * 3).encode()
    for body in (good, b"[{},{},{}]"):
        with pytest.raises(RequestInvalid, match="3 rows are more than one request may hold"):
            NUMERIC.decode(body, max_rows=2)
    assert NUMERIC.decode(good, max_rows=3).n_rows == 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", "is not JSON: .* at line 1, column 2"),
        (b'{"a": 1,}', "is not JSON"),
        (b'{"a": 1} x', "is not JSON: Extra data"),
        (b"a=1&d=2", "is not JSON"),
        (b'{"a": 01}', "is not JSON"),
        (b'{"a": +1}', "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b'{"a": "\xff"}', "is not UTF-8 at byte 7"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8"),
        (rb'{"a": "\ud800"}', "half a character"),
        (rb'{"\udfff": 1}', "half a character"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b"3", "neither a row nor a list of rows"),
        (b'"text"', "neither a row nor a list of rows"),
        (b"null", "neither a row nor a list of rows"),
        (b'{"instances": {"a": 1}}', "neither a row nor a list of rows"),
        (b'{"instances": [], "a": 1}', "beside instances the body holds other fields"),
    ],
)
def test_a_body_that_is_no_json_or_no_row_is_malformed(body, message):
    with pytest.raises(RequestMalformed, match=message):
        NUMERIC.decode(body)


def test_no_value_of_a_request_is_repeated_in_a_refusal():
    secret = "4111-1111"
    body = dict.fromkeys(("n", "i", "b", "c", "d", "t"), secret) | {
        "s": 41111111,
        secret[:0]: 1,
    }
    for raw in (json.dumps(body), json.dumps([secret]), f'{{"n": {secret}}}'):
        with pytest.raises(RequestError) as caught:
            REQUESTS.decode(raw.encode())
        said = repr((str(caught.value), getattr(caught.value, "problems", ())))
        assert "4111" not in said


def test_an_unknown_name_is_cut_and_made_readable():
    ((_, named),) = problems({**GOOD, "\x00\n" + "x" * 1_000: 1})
    assert re.fullmatch(r"\?\?x{62}\.\.\.", named)


def test_many_repeated_and_unknown_names_are_refused_in_good_time():
    pairs = ", ".join(f'"name {number}": 1' for number in range(50_000))
    assert len(problems(f'{{{pairs}, "name 0": 2}}'.encode(), NUMERIC)) == MAX_LISTED


# Both readers follow the same rules

_NUMBERS = st.one_of(
    st.floats(),
    st.integers(),
    st.sampled_from([0, -1, 120, 121, 120.5, 2**53 - 1, 2**53, 1e308, 10**400, -0.0, 1e6]),
)
_TEXTS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(["low", "high", "001", "2024-01-15", "2024-01-15T10:30:00Z", 'a":', "\ud800"]),
    st.dates().map(str),
    st.datetimes().map(str),
    st.datetimes(timezones=st.timezones()).map(lambda instant: instant.isoformat()),
)
_VALUES = st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS, st.lists(st.integers(), max_size=2))
_RIGHT = {
    "n": st.floats(-1.5, 1e6),
    "maybe n": st.none() | _NUMBERS,
    "i": st.integers(0, 120),
    "free_i": st.none() | st.integers(),
    "b": st.booleans(),
    "s": st.text(max_size=5),
    "maybe_s": st.none() | st.text(max_size=5),
    "c": st.sampled_from(["low", "high"]),
    "d": st.dates().map(str),
    "t": st.datetimes().map(str) | st.text(max_size=3),
}
_ROWS = st.fixed_dictionaries(
    {name: _RIGHT[name] for name in GOOD},
    optional={name: values for name, values in _RIGHT.items() if name not in GOOD},
)
_BENT = st.builds(
    lambda row, changes: row | changes,
    _ROWS,
    st.dictionaries(st.sampled_from([*_RIGHT, "other"]), _VALUES, max_size=2),
)
_OUTLINES = st.one_of(
    _BENT,
    st.lists(_BENT, max_size=3),
    st.lists(_BENT | _VALUES, max_size=2),
    st.builds(lambda rows: {"instances": rows}, st.lists(_BENT, max_size=2) | _VALUES),
    _VALUES,
)


def accepted_by_both_or_neither(raw):
    """Compare the fast reader with the slow one; return whether they took ``raw``."""
    try:
        rows = REQUESTS.decode(raw)
    except RequestError:
        with pytest.raises(RequestError):
            explain(raw, EVERY_KIND, max_rows=MAX_ROWS)
        return False
    explain(raw, EVERY_KIND, max_rows=MAX_ROWS)
    assert all(len(values) == rows.n_rows for values in rows.columns().values())
    return True


@given(_OUTLINES)
@settings(max_examples=300, deadline=None)
@example(GOOD)
def test_what_the_fast_reader_takes_the_slow_one_finds_no_fault_with_and_the_other_way(document):
    accepted_by_both_or_neither(json.dumps(document).encode())


@given(_BENT, _BENT, st.integers(0, 400), st.binary(max_size=3))
@settings(max_examples=200, deadline=None)
def test_both_readers_agree_on_damaged_text_too(row, other, at, inserted):
    raw = json.dumps([row, other], ensure_ascii=False).encode(errors="surrogatepass")
    accepted_by_both_or_neither(raw[:at] + inserted + raw[at:])
    accepted_by_both_or_neither(raw[:at] + raw[at + len(inserted) :])


@given(_ROWS, st.sampled_from(list(GOOD)))
@settings(max_examples=50, deadline=None)
def test_a_repeated_field_is_never_missed(row, name):
    body = json.dumps(row)
    repeated = f"{body[:-1]}, {json.dumps(name)}: {json.dumps(row[name])}}}".encode()
    assert problems(repeated)[(0, name)] == "is given twice"


_LITERALS = [
    f"{sign}{whole}{fraction}{power}"
    for sign, whole, fraction, power in product(
        ["", "-", "+"],
        ["0", "00", "7", "9007199254740991", "9007199254740993", "1" * 320, ""],
        ["", ".", ".0", ".5"],
        ["", "e1", "E-400", "e308", "e309", "e"],
    )
] + ["NaN", "Infinity", "-Infinity", "nan", "1_000", "0x10"]


@pytest.mark.parametrize("field", ["maybe n", "free_i"])
def test_both_readers_agree_on_every_spelling_of_a_number(field):
    body = json.dumps({**GOOD, field: "?"})
    taken = [
        literal
        for literal in _LITERALS
        if accepted_by_both_or_neither(body.replace('"?"', literal).encode())
    ]
    assert {"7", "-7.0e1", "0E-400"} <= set(taken)
    assert not {"NaN", "7e309", "+7", "00"} & set(taken)


# Rows inside of a row

RECORDS = RequestType.compile(
    Schema(
        (
            Column("days", "integer", nullable=True, minimum=1),
            Column(
                "past",
                "records",
                request_name="history",
                nullable=True,
                columns=(
                    Column("at", "date", request_name="date"),
                    Column("amount", maximum=100),
                    Column("note", "string", nullable=True),
                ),
            ),
        )
    )
)
PAST = {"date": "2024-01-15", "amount": 2.5}


def test_records_become_columns_of_their_own():
    found = columns({"days": 3, "history": [PAST, {**PAST, "amount": 4, "note": "x"}]}, RECORDS)

    (past,) = found["past"]
    assert past["at"].astype("datetime64[D]").astype(str).tolist() == ["2024-01-15", "2024-01-15"]
    assert past["amount"].tolist() == [2.5, 4.0]
    assert past["note"].tolist() == [None, "x"]


@pytest.mark.parametrize("body", [{}, {"days": 3}, {"history": None}, [{"history": None}, {}]])
def test_records_may_be_missing_where_they_are_nullable(body):
    assert not any(columns(body, RECORDS)["past"])


def test_a_request_with_records_does_not_need_the_slow_reading(monkeypatch):
    monkeypatch.setattr(
        "greenroom.payloads.request.explain", lambda *_, **__: pytest.fail("read twice")
    )

    rows = RECORDS.decode(json.dumps({"history": [PAST, {**PAST, "note": "x: y"}]}).encode())

    assert rows.n_rows == 1


def test_everything_bad_in_records_is_named_by_its_place():
    body = {"days": 0, "history": [PAST, 3, {"amount": 101, "b": 1}, {**PAST, "date": "soon"}]}

    assert problems(body, RECORDS) == {
        (0, "days"): "is below the minimum, 1",
        (0, "history[1]"): "is not an object with fields",
        (0, "history[2].date"): "is missing",
        (0, "history[2].amount"): "is above the maximum, 100",
        (0, "history[2].b"): "is unknown",
        (0, "history[3].date"): "must be a date, such as 2024-01-15",
    }


@pytest.mark.parametrize("value", ["[]", "3", '{"date": "2024-01-15"}', "[null]"])
def test_records_that_are_no_list_of_rows_are_refused(value):
    found = problems(b'{"history": %b}' % value.encode(), RECORDS)

    assert [field.partition("[")[0] for _, field in found] == ["history"]


def test_a_number_in_records_that_is_not_finite_and_a_name_given_twice_are_refused():
    raw = b'{"history": [{"date": "2024-01-15", "amount": NaN}]}'
    assert problems(raw, RECORDS) == {(0, "history[0].amount"): "is not finite"}
    raw = b'{"history": [{"date": "2024-01-15", "amount": 1, "amount": 2}]}'
    assert problems(raw, RECORDS) == {(0, "history[0].amount"): "is given twice"}


def test_more_records_than_may_be_are_refused_before_each_is_looked_at():
    found = problems({"history": [PAST] * (MAX_RECORDS + 1)}, RECORDS)

    assert found == {
        (0, "history"): f"has {MAX_RECORDS + 1} rows, more than the {MAX_RECORDS} that it may have"
    }


record_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 200) | st.sampled_from(["2024-01-15", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["date", "amount", "note", "other"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["days", "history", "other"]), record_values))
def test_both_readings_follow_the_same_rules_for_records(body):
    raw = json.dumps(body).encode()
    fast, slow = refusals(raw)
    assert fast == slow


def refusals(raw):
    """Return what each of the two readings says against a body."""
    found = []
    for read in (RECORDS.decode, partial(explain, schema=RECORDS.schema, max_rows=MAX_ROWS)):
        try:
            read(raw)
        except RequestInvalid as error:
            found.append(error.problems)
        else:
            found.append(None)
    return found
