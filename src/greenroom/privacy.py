"""Privacy: which columns of a request the prediction log does not keep as they were sent.

An app says it with its model, a deployment adds to that in its settings, and nothing takes it back.
Rules are data here; carrying them out is :mod:`greenroom.redaction`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from greenroom.schema import Column

__all__ = ["NOTHING_PRIVATE", "Privacy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """What is done to a model's columns before anything of a request is written to disk.

    Columns go by their name in the data or in requests. One that stands in several rules is treated
    by the strictest: left out before hashed before rounded.

    Parameters
    ----------
    left_out : tuple of str
        Columns that are not kept at all.
    hashed : tuple of str
        Columns of which a keyed hash is kept: equal values can be told, the values not.
    rounded : mapping of str to float
        Numbers that are kept as the nearest multiple of a step, in the column's unit.

    Examples
    --------
    >>> rules = Privacy(hashed=("customer",), rounded={"income": 1000})
    >>> list(rules.problems([Column("customer", "string"), Column("age")]))
    ["'income' is none of the columns customer, age"]
    """

    left_out: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()
    rounded: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "left_out", tuple(self.left_out))
        object.__setattr__(self, "hashed", tuple(self.hashed))
        object.__setattr__(self, "rounded", dict(self.rounded))

    def __bool__(self) -> bool:
        return bool(self.left_out or self.hashed or self.rounded)

    def with_(self, other: Privacy) -> Privacy:
        """Return the rules of both; of two steps the larger one."""
        steps = dict(self.rounded)
        for name, step in other.rounded.items():
            steps[name] = max(step, steps.get(name, step))
        return Privacy(
            left_out=tuple(dict.fromkeys((*self.left_out, *other.left_out))),
            hashed=tuple(dict.fromkeys((*self.hashed, *other.hashed))),
            rounded=steps,
        )

    def problems(self, columns: Sequence[Column]) -> Iterator[str]:
        """Say what of the rules does not fit the columns of a request."""
        by_name = {name: one for one in columns for name in (one.name, one.request_name)}
        listed = ", ".join(column.name for column in columns)
        for name in dict.fromkeys((*self.left_out, *self.hashed, *self.rounded)):
            if name not in by_name:
                yield f"{name!r} is none of the columns {listed}"
        for name, step in self.rounded.items():
            if not (math.isfinite(step) and step >= _SMALLEST_STEP):
                yield f"{name!r} cannot be rounded to a step of {step}"
            elif name in by_name and by_name[name].kind not in {"number", "integer"}:
                yield f"{name!r} is a {by_name[name].kind} and cannot be rounded"


_SMALLEST_STEP: Final = 1e-9
NOTHING_PRIVATE: Final = Privacy()
