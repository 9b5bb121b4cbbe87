"""Records, and what they say was selected before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from greenroom.promotion.history import Record, new_key, read_records, selected_before, write_record


def test_a_record_that_cannot_be_read_stands_in_its_place():
    at = datetime(2026, 11, 21, tzinfo=UTC)
    good = Record(action="promotion", to_version="1", selector="Production")
    found = read_records({new_key(at): write_record(good), "greenroom.history.2025": "?"})
    assert [one.action for one in found] == ["unreadable", "promotion"]
    assert found[0].reasons == ("?",)


def test_names_of_records_sort_by_time_and_differ():
    at = datetime(2026, 11, 21, 4, 3, tzinfo=UTC)
    keys = [new_key(at + timedelta(microseconds=step)) for step in (0, 1, 10, 999_999, 1_000_000)]
    assert keys == sorted(keys)
    assert new_key(at) != new_key(at)


steps = st.lists(st.sampled_from(["1", "2", "3", "4", "back"]), max_size=12)


@given(steps)
def test_rolling_back_undoes_promotions_one_after_the_other(acts):
    """Against a plain stack of what was selected."""
    stack: list[str] = []
    records: list[Record] = []
    for act in acts:
        current = stack[-1] if stack else ""
        if act == "back":
            expected = [version for version in reversed(stack[:-1]) if version != current]
            found = selected_before(records, "Production", current)
            assert found == list(dict.fromkeys(expected))
            if not found:
                continue
            while stack[-1] != found[0]:
                stack.pop()
            kind, to = "rollback", found[0]
        elif act != current:
            stack.append(act)
            kind, to = "promotion", act
        else:
            continue
        made = Record(action=kind, from_version=current, to_version=to, selector="Production")
        records.append(made)


@given(
    st.builds(
        Record,
        action=st.sampled_from(["promotion", "refusal", "rollback"]),
        outcome=st.sampled_from(["done", "resumed", "abandoned"]),
        who=st.text(),
        reasons=st.lists(st.text(), max_size=3).map(tuple),
        passed=st.none() | st.booleans(),
        challenger=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        n_rows=st.integers(0, 10**9),
    )
)
def test_a_record_is_read_as_it_was_written(made):
    key = new_key(datetime.now(UTC))
    assert read_records({key: write_record(made), "other": "tag"}) == [made]
