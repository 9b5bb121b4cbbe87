from hypothesis import given
from hypothesis import strategies as st

from greenroom.supervision.swap import Outcome, Swap


def test_a_swap_is_committed_only_when_every_member_has_prepared() -> None:
    swap = Swap(1, members=[1, 2])
    swap.prepared(2)
    assert swap.outcome is None
    swap.prepared(1)
    assert swap.outcome == Outcome("commit")


def test_one_member_that_fails_refuses_for_all() -> None:
    swap = Swap(1, members=[1, 2])
    swap.prepared(1)
    swap.failed(2, "m", "broken")
    assert swap.outcome == Outcome("refuse", {"m": "broken"})


def test_a_member_that_is_lost_does_not_hold_up_the_rest() -> None:
    swap = Swap(1, members=[1, 2])
    swap.left(1, hung=True)
    swap.prepared(2)
    assert swap.outcome == Outcome("commit")


def test_nothing_is_committed_when_all_members_are_lost() -> None:
    swap = Swap(1, members=[1, 2])
    swap.prepared(1)
    swap.left(1)
    swap.left(2)
    assert swap.outcome == Outcome("lost")


def test_without_members_the_first_to_answer_decides() -> None:
    swap = Swap(1, members=[])
    assert swap.outcome is None
    swap.left(1)
    assert swap.outcome is None, "it had not been asked: it says nothing about the generation"
    swap.asked(2)
    swap.asked(3)
    swap.prepared(3)
    assert swap.outcome == Outcome("commit")


def test_a_worker_that_is_no_member_cannot_refuse_for_those_who_are() -> None:
    swap = Swap(1, members=[1])
    swap.asked(2)
    swap.failed(2, "m", "out of memory")
    assert swap.outcome is None
    swap.prepared(1)
    assert swap.outcome == Outcome("commit")


votes = st.lists(st.tuples(st.sampled_from(["prepared", "failed", "left"]), st.integers(0, 4)))


@given(members=st.sets(st.integers(0, 4)), votes=votes)
def test_a_commit_needs_a_living_worker_that_prepared_and_no_living_member_without(
    members: set[int], votes: list[tuple[str, int]]
) -> None:
    swap = Swap(1, members)
    prepared: set[int] = set()
    gone: set[int] = set()
    failed = False
    for vote, worker in votes:
        if worker in gone:
            continue
        swap.asked(worker)
        if vote == "prepared":
            swap.prepared(worker)
            prepared.add(worker)
        elif vote == "failed":
            swap.failed(worker, "m", "broken")
            failed = failed or worker in members or not members
        else:
            swap.left(worker)
            gone.add(worker)
    outcome = swap.outcome
    if outcome is not None and outcome.verdict == "commit":
        assert prepared - gone
        assert members - gone <= prepared
        assert not failed
