"""From conditions to alerts, over any course of events."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from greenroom.monitoring.alert_states import RESOLVED_S, Condition, resumed, step

FOR_S = 60.0


def condition(name="Slow", *, for_s=FOR_S, **more):
    return Condition(name, "warning", {"model": "m"}, "it is slow", for_s=for_s, **more)


def course(looks, *, repeat_s=0.0, restarts=()):
    """Go through looks, each a time and its conditions; give state and notices after each."""
    alerts, told = (), []
    for number, (now_s, found) in enumerate(looks):
        if number in restarts:
            alerts = resumed(alerts, now_s)
        alerts, notices = step(alerts, found, now_s, repeat_s=repeat_s)
        told.append((now_s, alerts, notices))
    return told


steps = st.lists(
    st.tuples(
        # Eighths of a second, so that sums and differences of times are exact.
        st.integers(1, 720).map(lambda eighths: eighths / 8),
        st.sets(st.sampled_from(["A", "B"])),
        st.sets(st.sampled_from(["A", "B"])),
    ),
    max_size=40,
)


def looks_of(drawn):
    """Return looks with the conditions that hold, and those that cannot be told."""
    now_s, looks = 1_000.0, []
    for pause_s, holding, unknown in drawn:
        now_s += pause_s
        found = [condition(name) for name in sorted(holding)]
        found += [condition(name, known=False) for name in sorted(unknown - holding)]
        looks.append((now_s, found))
    return looks


@given(steps, st.sets(st.integers(0, 40)))
def test_no_alert_fires_before_its_condition_has_held_for_its_time_at_every_look(drawn, restarts):
    held_since: dict[str, float] = {}
    looks = looks_of(drawn)
    for number, (now_s, _, notices) in enumerate(course(looks, restarts=restarts)):
        holding = {one.name for one in looks[number][1] if one.known}
        since = held_since if number not in restarts else {}
        held_since = {name: since.get(name, now_s) for name in holding}
        for notice in notices:
            if notice.kind == "firing":
                assert now_s - held_since[notice.alert.name] >= FOR_S


@given(steps, st.sets(st.integers(0, 40)))
def test_every_alert_is_told_once_when_it_fires_and_once_when_it_is_over(drawn, restarts):
    told: dict[str, list[str]] = {"A": [], "B": []}
    for _, _, notices in course(looks_of(drawn), restarts=restarts):
        for notice in notices:
            told[notice.alert.name].append(notice.kind)
    for kinds in told.values():
        assert [kind for kind, _ in groupby(kinds)] == kinds, "firing and resolved take turns"
        assert kinds[:1] in ([], ["firing"])


@given(steps)
def test_whatever_fires_is_over_at_last_when_its_condition_is_gone(drawn):
    looks = looks_of(drawn)
    end_s = looks[-1][0] if looks else 0.0
    told = course([*looks, (end_s + 1, []), (end_s + 1 + FOR_S, [])])
    kinds = Counter(notice.kind for _, _, notices in told for notice in notices)
    assert kinds["firing"] == kinds["resolved"]
    assert all(alert.state == "resolved" for alert in told[-1][1])


@given(steps)
def test_no_two_notices_have_one_id(drawn):
    ids = [notice.id for _, _, notices in course(looks_of(drawn)) for notice in notices]
    assert len(ids) == len(set(ids))


def test_an_alert_that_flaps_stays_one_alert():
    looks = [(10.0 * n, [condition()] if n % 3 else []) for n in range(100)]
    kinds = [notice.kind for _, _, notices in course(looks) for notice in notices]
    assert kinds == [], "it never holds for a minute"
    began = [(10.0 * n, [condition()]) for n in range(7)]
    flapping = [(70.0 + now_s, found) for now_s, found in looks]
    kinds = [notice.kind for _, _, notices in course([*began, *flapping]) for notice in notices]
    assert kinds == ["firing"], "nor is it ever gone for a minute"


def test_a_notice_is_repeated_while_the_alert_fires_and_not_before_its_time():
    looks = [(10.0 * n, [condition()]) for n in range(100)]
    told = course(looks, repeat_s=300.0)
    at = [(now_s, notice.kind) for now_s, _, notices in told for notice in notices]
    assert at == [(60.0, "firing"), (360.0, "repeated"), (660.0, "repeated"), (960.0, "repeated")]


def test_what_cannot_be_told_neither_ends_an_alert_nor_counts_for_a_pending_one():
    unknown = [condition(known=False)]
    firing = [(0.0, [condition()]), (60.0, [condition()])]
    told = course([*firing, (120.0, unknown), (3_600.0, unknown)])
    assert told[-1][1][0].state == "firing"
    told = course([(0.0, [condition()]), (59.0, unknown), (61.0, [condition()])])
    assert told[-1][1][0].state == "pending"


def test_what_is_seen_in_runs_counts_runs_and_not_looks():
    def seen(run):
        return [condition(for_s=0.0, n_times=2, evidence=run)]

    looks = [(0.0, seen("1")), (10.0, seen("1")), (3_600.0, seen("2")), (3_610.0, seen("2"))]
    told = course(looks)
    at = [(now_s, notice.kind) for now_s, _, notices in told for notice in notices]
    assert at == [(3_600.0, "firing")]
    told = course([(0.0, seen("1")), (3_600.0, []), (7_200.0, seen("3"))])
    assert told[-1][1][0].state == "pending", "not one after the other"


def test_an_alert_survives_a_restart_and_a_pending_one_waits_anew():
    fired = course([(0.0, [condition()]), (60.0, [condition()])])[-1][1]
    after, notices = step(resumed(fired, 10_000.0), [condition()], 10_000.0)
    assert (after[0].state, after[0].fired_at_s, notices) == ("firing", 60.0, ())
    pending = course([(0.0, [condition()])])[-1][1]
    after, notices = step(resumed(pending, 10_000.0), [condition()], 10_000.0)
    assert after[0].state == "pending"
    after, notices = step(after, [condition()], 10_060.0)
    assert [notice.kind for notice in notices] == ["firing"]


def test_an_alert_that_is_over_is_known_for_a_quarter_of_an_hour_and_may_come_back():
    once = [(0.0, [condition(for_s=0.0)]), (10.0, [])]
    assert course([*once, (10.0 + RESOLVED_S, [])])[-1][1][0].state == "resolved"
    assert course([*once, (11.0 + RESOLVED_S, [])])[-1][1] == ()
    _, alerts, notices = course([*once, (20.0, [condition(for_s=0.0)])])[-1]
    assert [notice.kind for notice in notices] == ["firing"]
    assert (alerts[0].began_at_s, alerts[0].resolved_at_s) == (20.0, None)


def test_a_clock_that_is_set_back_does_not_hold_an_alert_up_for_hours():
    looks = [(10_000.0, [condition()]), (0.0, [condition()]), (60.0, [condition()])]
    assert course(looks)[-1][1][0].state == "firing"
    gone = [(10_000.0, [condition(for_s=0.0)]), (0.0, [])]
    assert course(gone)[-1][1][0].state == "resolved"
