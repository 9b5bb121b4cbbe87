"""Selectors: the one way in which a model names the version that it serves.

Pure: text in, a value out. Resolving a selector against a registry is
:mod:`greenroom.registry.registry`'s business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from greenroom.errors import AppError

STAGES: Final = ("None", "Staging", "Production", "Archived")
"""MLflow's stages; a version is in exactly one."""

ACTIVE_STAGES: Final = frozenset({"Staging", "Production"})
"""The stages that hold what is used; a promotion goes into one of them."""

_ALIAS = re.compile(r"[A-Za-z0-9_-]+")
_NUMBER = re.compile(r"[0-9]{1,18}")
_RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Selector:
    """A stage, an alias, ``latest`` or a version.

    Examples
    --------
    >>> Selector.parse("@champion")
    Selector(kind='alias', value='champion')
    >>> str(Selector.parse("Production"))
    'Production'
    """

    kind: Literal["stage", "alias", "latest", "version"]
    value: str

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Read a selector.

        Raises
        ------
        AppError
            When ``text`` is none; the message says what there is.
        """
        if text == "latest":
            return cls("latest", "latest")
        if text.startswith("@"):
            alias = text[1:]
            if _ALIAS.fullmatch(alias) and not _RESERVED.fullmatch(alias):
                return cls("alias", alias)
        elif _NUMBER.fullmatch(text) and int(text) > 0:
            return cls("version", str(int(text)))
        elif text.title() in STAGES[1:]:
            return cls("stage", text.title())
        raise AppError(
            f"{text!r} selects nothing",
            advice="use Production, Staging, Archived, @alias, latest or a version number",
        )

    @property
    def movable(self) -> bool:
        """Whether a promotion can move what the selector names."""
        return self.kind == "alias" or self.value in ACTIVE_STAGES

    @property
    def mirror(self) -> Selector | None:
        """The other way to name the same, which a promotion writes and nothing follows."""
        if self.kind == "stage" and self.movable:
            return Selector("alias", self.value.lower())
        if self.kind == "alias" and self.value.title() in ACTIVE_STAGES:
            return Selector("stage", self.value.title())
        return None

    def __str__(self) -> str:
        return f"@{self.value}" if self.kind == "alias" else self.value
