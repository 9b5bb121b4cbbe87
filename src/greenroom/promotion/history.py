"""The history of a registered model: who selected which version, when, and on what evidence.

Each promotion, refusal, rollback and transition is one tag of the registered model, written once
and never changed, so that the history lives where the versions live and needs no store of its own.
The tag's name begins with the time, so that sorting the names sorts the records.

Pure: tags in, records out. Writing them is :mod:`greenroom.promotion.promotion`'s business.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

PREFIX: Final = "greenroom.history."

Outcome = Literal["done", "resumed", "abandoned"]
_MOVING: Final = frozenset({"promotion", "rollback", "transition", "move"})


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happened once.

    Parameters
    ----------
    action : {"promotion", "refusal", "rollback", "transition", "move", "unreadable"}
        ``transition`` is what a person asked a server for, into a stage or out of it. ``move`` is
        what somebody did outside of Greenroom; it is noticed, not written. ``unreadable`` stands
        for a tag that this Greenroom does not understand.
    outcome : {"done", "resumed", "abandoned"}
        ``resumed``: it was cut off and completed later; ``abandoned``: it was cut off, and then
        somebody moved what the selector names, so that it was left at that.
    who : str
        Who asked for it.
    at : str
        When it was begun (UTC, ISO 8601); empty for a move whose time is not known.
    from_version, to_version : str
        What was selected before, and what was to be selected; empty for nothing.
    selector : str
        What was moved: ``Production``, ``@champion``.
    passed : bool, optional
        What the gate said; None where it was not asked.
    reasons : tuple of str
        The gate's sentences.
    metric : str
        What the gate judged by.
    challenger, champion : float, optional
        The metric of each, on the same ``n_rows`` rows; None where there is none.
    independence : str
        What is known about whether those rows were held out from both trainings.
    content_hash : str
        The challenger's data.
    outside_gate : bool
        Whether a person promoted without asking the gate.
    """

    action: Literal["promotion", "refusal", "rollback", "transition", "move", "unreadable"]
    outcome: Outcome = "done"
    who: str = ""
    at: str = ""
    from_version: str = ""
    to_version: str = ""
    selector: str = ""
    passed: bool | None = None
    reasons: tuple[str, ...] = ()
    metric: str = ""
    challenger: float | None = None
    champion: float | None = None
    n_rows: int = 0
    independence: str = ""
    content_hash: str = ""
    outside_gate: bool = False

    @property
    def moved(self) -> bool:
        """Whether the selector named ``to_version`` afterwards."""
        return self.action in _MOVING and self.outcome != "abandoned"

    @property
    def selected_afterwards(self) -> str | None:
        """What was selected afterwards; empty for nothing, None where the record cannot say."""
        if self.moved:
            return self.to_version
        return self.from_version if self.action == "refusal" else None


def timestamp(at: datetime) -> str:
    """Write an instant as ISO 8601 in UTC, to the millisecond.

    Examples
    --------
    >>> timestamp(datetime(2026, 11, 21, 4, 3, 31, 123456, tzinfo=UTC))
    '2026-11-21T04:03:31.123Z'
    """
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_key(at: datetime) -> str:
    """Make the name of a new record's tag; names sort by time, and no two are equal."""
    return f"{PREFIX}{at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"


def write_record(record: Record) -> str:
    """Return the tag's value."""
    return msgspec.json.encode(record).decode()


def read_records(tags: Mapping[str, str]) -> list[Record]:
    """Read the history out of a registered model's tags, oldest first.

    Examples
    --------
    >>> record = Record(action="rollback", who="ada", to_version="3")
    >>> read_records({new_key(datetime.now(UTC)): write_record(record)}) == [record]
    True
    """
    return [_read(key, tags[key]) for key in sorted(tags) if key.startswith(PREFIX)]


def selected_before(records: Sequence[Record], selector: str, current: str) -> list[str]:
    """Return what was selected before ``current``, the latest first: what a rollback goes back to.

    A rollback takes back: after 1, 2, 3 and a rollback to 2, what was selected before is 1.

    Parameters
    ----------
    records : sequence of Record
        Oldest first.
    selector : str
        Only what it named counts.
    current : str
        What is selected now; empty for nothing.

    Examples
    --------
    >>> moves = [("promotion", "1"), ("promotion", "2"), ("promotion", "3"), ("rollback", "2")]
    >>> records = [Record(action=a, to_version=v, selector="Production") for a, v in moves]
    >>> selected_before(records, "Production", "2")
    ['1']
    """
    stack: list[str] = []
    for record in records:
        if not record.moved or record.selector != selector:
            continue
        if record.from_version and stack[-1:] != [record.from_version]:
            stack.append(record.from_version)  # somebody moved it there outside of Greenroom
        if record.action == "rollback":
            stack = _taken_back(stack, record.to_version)
        if stack[-1:] != [record.to_version]:
            stack.append(record.to_version)
    if stack[-1:] == [current]:
        stack.pop()
    before = dict.fromkeys(version for version in reversed(stack) if version != current)
    return [version for version in before if version]


def _taken_back(stack: list[str], to_version: str) -> list[str]:
    """Drop what a rollback left, never to come back to it, and all after what it went back to."""
    left = stack[:-1]
    if to_version not in left:
        return left
    return left[: len(left) - left[::-1].index(to_version)]


def _read(key: str, value: str) -> Record:
    try:
        return msgspec.json.decode(value, type=Record)
    except msgspec.DecodeError:
        return Record(action="unreadable", at=key.removeprefix(PREFIX), reasons=(value,))
