"""Whether a server answers as scikit-learn does, row by row."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.load import TOKEN
from benchmarks.serving.versions import Version
from benchmarks.serving.wire import Protocol

N_SINGLE = 64
"""How many different rows the single-row load sends in turn."""

N_MANY = 1_000
TOLERANCE = 1e-5
"""Of a probability: what float32 arithmetic may differ by, and no wrong answer does."""

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Question:
    """A request and what scikit-learn says to it."""

    path: str
    body: bytes
    expected: tuple[float, ...]
    tolerance: float


@dataclass(frozen=True)
class Questions:
    """The requests that a server is loaded with: of one row each, and one of many rows."""

    single: tuple[Question, ...]
    many: Question

    @classmethod
    def build(cls, protocol: Protocol, version: Version) -> Questions:
        """Write down what to ask a server that speaks ``protocol`` and serves ``version``."""
        rows = version.rows(N_MANY)
        expected = version.expected(rows, classes=protocol.answers == "class")

        def ask(path: str, first: int, last: int, *, single: bool) -> Question:
            body = protocol.body(rows[first:last], version.names, single)
            values = tuple(expected[first:last])
            tolerance = TOLERANCE if protocol.answers == "probability" else 0.0
            return Question(path.format(model=version.model), body, values, tolerance)

        single = [ask(protocol.single_path, i, i + 1, single=True) for i in range(N_SINGLE)]
        return cls(tuple(single), ask(protocol.many_path, 0, N_MANY, single=False))

    @property
    def all(self) -> tuple[Question, ...]:
        """Every one of them."""
        return (*self.single, self.many)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the bodies, one a line: of single rows, and the one of many rows."""
        single, many = folder / "single.txt", folder / "many.txt"
        single.write_bytes(b"".join(one.body + b"\n" for one in self.single))
        many.write_bytes(self.many.body + b"\n")
        return single, many


def ask(port: int, question: Question, timeout_s: float = TIMEOUT_S) -> tuple[int, bytes]:
    """Send one request on a connection of its own; return status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        connection.request("POST", question.path, question.body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def answers(port: int, question: Question) -> bool:
    """Whether the server answers that question at all, with 200."""
    try:
        return ask(port, question)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def reply_sizes(port: int, questions: Questions) -> dict[int, int]:
    """Return how many bytes a server answers to a body of how many bytes."""
    return {len(one.body): len(ask(port, one)[1]) for one in questions.all}


def wrong_answers(port: int, protocol: Protocol, questions: Sequence[Question]) -> list[str]:
    """Ask everything; return in words what is not what scikit-learn says."""
    problems = []
    for position, question in enumerate(questions):
        status, reply = ask(port, question)
        if status != 200:
            problems.append(f"request {position}: status {status}: {reply[:200]!r}")
        elif protocol.answers != "nothing":
            problem = difference(protocol.values(reply), question)
            problems += [f"request {position}: {problem}"] if problem else []
    return problems


def difference(values: Sequence[float], question: Question) -> str:
    """Return how values differ from what is expected; empty when they do not.

    >>> difference([0.5, 0.25], Question("/", b"", (0.5, 0.75), 1e-5))
    'row 1: 0.25 where scikit-learn says 0.75'
    >>> difference([0.5], Question("/", b"", (0.5, 0.75), 1e-5))
    '1 answers to 2 rows'
    """
    if len(values) != len(question.expected):
        return f"{len(values)} answers to {len(question.expected)} rows"
    for row, (value, expected) in enumerate(zip(values, question.expected, strict=True)):
        if not abs(value - expected) <= question.tolerance:
            return f"row {row}: {value} where scikit-learn says {expected}"
    return ""
