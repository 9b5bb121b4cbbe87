"""How a swap is decided: which workers have to prepare a generation, and what follows from it.

Pure: events in, a verdict out. Sending the messages, keeping the time and starting workers again
is :mod:`greenroom.supervision.supervisor`'s business.

A swap takes part with the workers that accept connections when it begins. It is committed when all
of them that are still alive have prepared, refused when one of them fails to load, and without a
result when all of them were lost. Where no worker accepts connections yet, the first one to answer
decides: a generation that no worker has ever loaded is never committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["commit", "refuse", "lost"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a swap.

    Parameters
    ----------
    verdict : {"commit", "refuse", "lost"}
        ``lost``: every worker that tried ended before it answered.
    problems : mapping of str to str
        For ``refuse``, by model: what is wrong. Empty when a worker hung: then it cannot be said
        which model it was.
    hung : bool
        Whether a lost worker had to be killed because it did not answer in time.
    """

    verdict: Verdict
    problems: Mapping[str, str] = field(default_factory=dict)
    hung: bool = False


class Swap:
    """The votes of one swap.

    Parameters
    ----------
    number : int
        The generation.
    members : iterable of int
        The workers that accept connections.

    Examples
    --------
    >>> swap = Swap(2, members=[1, 2])
    >>> swap.prepared(1), swap.outcome
    (None, None)
    >>> swap.left(2)
    >>> swap.outcome.verdict
    'commit'
    """

    def __init__(self, number: int, members: Iterable[int]) -> None:
        self.number = number
        self._members = frozenset(members)
        self._waiting = set(self._members)
        self._asked: set[int] = set(self._members)
        self._ready: set[int] = set()
        self._problems: dict[str, str] = {}
        self._lost = 0
        self._hung = False

    def asked(self, worker: int) -> None:
        """Note that a worker was told to prepare; members are, from the beginning."""
        self._asked.add(worker)

    def prepared(self, worker: int) -> None:
        """Note that a worker has loaded the generation."""
        self._asked.discard(worker)
        self._waiting.discard(worker)
        self._ready.add(worker)

    def failed(self, worker: int, model: str, problem: str) -> None:
        """Note that a model does not load; one that only joins later has no say beside members."""
        self._asked.discard(worker)
        self._waiting.discard(worker)
        if worker in self._members or not self._members:
            self._problems[model] = problem

    def left(self, worker: int, *, hung: bool = False) -> None:
        """Note that a worker has ended, or was killed because it ``hung``."""
        if worker in self._asked:
            self._lost += 1
            self._hung = self._hung or hung
        self._asked.discard(worker)
        self._waiting.discard(worker)
        self._ready.discard(worker)

    @property
    def outcome(self) -> Outcome | None:
        """What is decided, or None while it is open."""
        if self._problems:
            return Outcome("refuse", dict(self._problems))
        if self._waiting:
            return None
        if self._ready:
            return Outcome("commit")
        if self._members or self._lost:
            return Outcome("lost", hung=self._hung)
        return None
