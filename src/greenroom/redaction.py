"""Redaction: rows of a request as the prediction log keeps them, without what is private.

The rules of a model (:mod:`greenroom.privacy`) and the columns of a version are made into one
function once, which the log calls in place of keeping the request as it was received.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from greenroom.errors import SettingsError, VersionUnloadable
from greenroom.payloads.rows import RowSource
from greenroom.privacy import NOTHING_PRIVATE, Privacy
from greenroom.schema import Column
from greenroom.settings import ModelSettings, Settings

__all__ = [
    "MIN_KEY_BYTES",
    "HashKey",
    "Redaction",
    "Redactions",
    "hashed",
    "hashes",
    "read_key",
    "redactions_of",
    "rounded",
    "settings_privacy",
]

MIN_KEY_BYTES: Final = 16
"""A key of fewer bytes could be found by trying (RFC 2104 advises the length of the hash, 32)."""

HashKey: TypeAlias = bytes
_Cells: TypeAlias = Callable[[npt.NDArray[Any]], list[Any]]
_encode: Final = msgspec.json.Encoder().encode


class Redaction(NamedTuple):
    """What one version's requests become.

    Attributes
    ----------
    columns : tuple of Column
        What is kept: columns that are left out are absent, hashed ones are strings.
    body : callable
        Takes the rows of a request, returns them as a JSON list of objects.
    """

    columns: tuple[Column, ...]
    body: Callable[[RowSource], bytes]


class Redactions:
    """The rules of all models of a server, and the key that values are hashed with.

    Parameters
    ----------
    rules : mapping of str to Privacy, optional
        By what a model is called on the server.
    key : bytes
        Empty where nothing is hashed.

    Examples
    --------
    >>> redactions = Redactions({"credit": Privacy(left_out=("name",))})
    >>> redactions.of("credit", (Column("name", "string"), Column("age"))).columns[0].name
    'age'
    >>> redactions.of("other", (Column("name", "string"),)) is None
    True
    """

    def __init__(self, rules: Mapping[str, Privacy] | None = None, key: HashKey = b"") -> None:
        self._rules: Final = dict(rules or {})
        self._key: Final = key

    def problems(self, model: str, columns: Sequence[Column]) -> list[str]:
        """Say what of a model's rules does not fit a version's columns."""
        return list(self._rules.get(model, NOTHING_PRIVATE).problems(columns))

    def rules(self, model: str) -> Privacy:
        """Return the rules of a model, by what it is called on the server."""
        return self._rules.get(model, NOTHING_PRIVATE)

    def check(self, model: str, columns: Sequence[Column]) -> None:
        """Refuse a version whose columns a model's rules do not fit: it might tell too much.

        Raises
        ------
        VersionUnloadable
            Naming the rules.
        """
        problems = self.problems(model, columns)
        if problems:
            raise VersionUnloadable(
                f"the log's rules on columns: {'; '.join(problems)}",
                model=model,
                advice=f"correct log_leave_out, log_hash and log_round of models.{model}",
            )

    def of(self, model: str, columns: Sequence[Column]) -> Redaction | None:
        """Return what is done to requests with these columns; None where they are kept whole."""
        rules = self._rules.get(model)
        return _compiled(rules, tuple(columns), self._key) if rules else None


def _compiled(rules: Privacy, columns: tuple[Column, ...], key: HashKey) -> Redaction:
    kept: list[Column] = []
    cells: list[tuple[str, str, _Cells]] = []
    for column in columns:
        found = _treated(rules, column, key)
        if found is not None:
            kept.append(found[0])
            cells.append((column.name, found[0].request_name, found[1]))
    names = [request_name for _, request_name, _ in cells]

    def body(rows: RowSource) -> bytes:
        if not cells:
            return _encode([{}] * rows.n_rows)
        values = rows.columns()
        listed = [read(values[name]) for name, _, read in cells]
        return _encode([dict(zip(names, row, strict=True)) for row in zip(*listed, strict=True)])

    return Redaction(tuple(kept), body)


def _treated(rules: Privacy, column: Column, key: HashKey) -> tuple[Column, _Cells] | None:
    """Return a column as it is kept, and what makes its values; None where it is left out."""
    called = {column.name, column.request_name}
    if called & set(rules.left_out):
        return None
    values = _READERS.get(column.kind, _numbers)
    if called & set(rules.hashed):
        text = replace(
            column, kind="string", categories=(), minimum=None, maximum=None, example=None
        )
        return text, lambda found: [
            None if one is None else hashed(key, value_text(one)) for one in values(found)
        ]
    steps = [step for name, step in rules.rounded.items() if name in called]
    if not steps:
        return column, values
    step = max(steps)
    # The nearest multiple may lie outside of the range, or between two integers.
    whole = column.kind == "integer" and float(step).is_integer()
    kept = replace(column, kind="integer" if whole else "number", minimum=None, maximum=None)
    read = _integers if whole else _numbers
    return kept, lambda found: read(rounded(found, step))


def rounded(values: npt.NDArray[Any], step: float) -> npt.NDArray[Any]:
    """Return the nearest multiples of a step, as they are kept.

    Examples
    --------
    >>> rounded(np.array([0.31, 1.04]), 0.1).tolist()
    [0.3, 1.0]
    """
    # 0.1 * 3 is 0.30000000000000004: of a step's multiples, twelve digits after its first are kept.
    digits = 12 - math.floor(math.log10(step))
    found: npt.NDArray[Any] = np.round(np.round(values / step) * step, digits)
    return found


def _numbers(values: npt.NDArray[Any]) -> list[Any]:
    return [None if value != value else value for value in values.tolist()]


def _integers(values: npt.NDArray[Any]) -> list[Any]:
    return [None if value != value else int(value) for value in values.tolist()]


def _booleans(values: npt.NDArray[Any]) -> list[Any]:
    return [None if value != value else bool(value) for value in values.tolist()]


def _texts(values: npt.NDArray[Any]) -> list[Any]:
    return list(values.tolist())


def _dates(values: npt.NDArray[Any]) -> list[Any]:
    return list(values.astype("datetime64[D]").tolist())


_READERS: Final[dict[str, _Cells]] = {
    "integer": _integers,
    "boolean": _booleans,
    "string": _texts,
    "category": _texts,
    "date": _dates,
    "datetime": _texts,
}


def value_text(value: Any) -> str:
    """Return the text of a value that is hashed; a number's does not depend on how it was sent.

    Examples
    --------
    >>> value_text(42.0), value_text("042"), value_text(0.5), value_text(True)
    ('42', '042', '0.5', 'true')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


def hashed(key: HashKey, text: str) -> str:
    """Return HMAC-SHA-256 (RFC 2104) of a value's text, in hexadecimal.

    The same value has the same hash in every column and model, so that one person's rows can be
    found with the key.

    Examples
    --------
    >>> hashed(b"a key of 16 byte", "x") == hashed(b"a key of 16 byte", "x")
    True
    >>> len(hashed(b"a key of 16 byte", "x"))
    64
    """
    return hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256").hex()


def hashes(key: HashKey, text: str) -> Iterator[str]:
    """Return the hashes that a value may have, written as ``text``: as text, and as a number."""
    yield hashed(key, text)
    try:
        number = value_text(float(text))
    except ValueError:
        return
    if number != text:
        yield hashed(key, number)


def redactions_of(settings: Settings, declared: Mapping[str, Privacy]) -> Redactions:
    """Return what the apps' models declare, and what settings add to it.

    Parameters
    ----------
    settings : Settings
    declared : mapping of str to Privacy
        By what a model is called on the server.

    Raises
    ------
    SettingsError
        When columns are to be hashed and there is no key, or one that cannot be used.
    """
    rules = dict(declared)
    for model, one in settings.models.items():
        rules[model] = rules.get(model, NOTHING_PRIVATE).with_(settings_privacy(one))
    key = read_key(settings)
    without = [model for model, rule in rules.items() if rule.hashed and not key]
    if without:
        raise SettingsError(
            f"the log hashes columns of {', '.join(without)} and has no key",
            advice="make one with `openssl rand -hex 32` and set log_hash_key_file, or log: false",
        )
    return Redactions(rules, key)


def settings_privacy(model: ModelSettings) -> Privacy:
    """Return the rules that settings add to those of a model."""
    return Privacy(left_out=model.log_leave_out, hashed=model.log_hash, rounded=model.log_round)


def read_key(settings: Settings) -> HashKey:
    """Return the key that settings name; empty where they name none.

    Raises
    ------
    SettingsError
        When there are two of them, the file cannot be read, or the key is too short.
    """
    text, file = settings.log_hash_key, settings.log_hash_key_file
    if text and file:
        raise SettingsError(
            "log_hash_key and log_hash_key_file are both set", advice="leave one of them out"
        )
    if not text and not file:
        return b""
    where = "log_hash_key"
    key = text.encode()
    if file:
        path = Path(settings.home) / file
        where = str(path)
        try:
            key = path.read_bytes().strip()
        except OSError as error:
            raise SettingsError(
                f"log_hash_key_file: {path} cannot be read: {error.strerror}",
                advice="make one with `openssl rand -hex 32`, or restore the one there was: with "
                "another key, hashes are other ones",
            ) from error
    if len(key) < MIN_KEY_BYTES:
        raise SettingsError(
            f"{where} holds a key of {len(key)} bytes, at least {MIN_KEY_BYTES} are needed",
            advice="make one with `openssl rand -hex 32`",
        )
    return key
