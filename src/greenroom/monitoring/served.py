"""Served: which version is looked at.

What the registry selects counts, as for the server. Where it cannot be asked, or where two versions
stand in the selected stage, the log says which one answered last.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from greenroom.errors import LogError, NothingToCompare, RegistryUnavailable
from greenroom.log.log_reading import PredictionLogReader, Window
from greenroom.registry.registered import ModelVersion
from greenroom.registry.registry import Registry
from greenroom.selector import Selector
from greenroom.versions.model_store import DIGEST_TAG

__all__ = ["Served", "served_version"]

_SPANS_H: Final = (1, 24, 24 * 30)
"""How far back is looked for the last rows, step by step, before all of the log is."""


class Served(NamedTuple):
    """A version, the digest of its files, and what there is to say about the choice."""

    version: str
    digest: str
    note: str = ""


def served_version(
    registry: Registry | None, reader: PredictionLogReader, name: str, selector: Selector
) -> Served:
    """Return the version of a model that is served.

    Parameters
    ----------
    registry : Registry, optional
        None where settings say that MLflow is not to be asked.
    reader : PredictionLogReader
    name : str
        The registered name.
    selector : Selector

    Raises
    ------
    NothingToCompare
        When nothing is served, or the log has nothing where the registry cannot be asked.
    RegistryError
        When the registry refuses.
    """
    if registry is None:
        return _answered_last(reader, name, "")
    try:
        selection = registry.resolve(name, selector)
    except RegistryUnavailable as error:
        note = (
            f"MLflow does not answer ({error.message}): the version is the one that answered last"
        )
        return _answered_last(reader, name, note)
    if not selection.registered:
        raise NothingToCompare(
            f"no model is registered as {name!r}", advice="`greenroom train` registers an app's"
        )
    if not selection.versions:
        raise NothingToCompare(
            f"no version of {name!r} is served: nothing is selected by {selector}",
            advice=f"`greenroom promote {name}` selects one",
        )
    return _of(reader, name, selector, selection.versions)


def _of(
    reader: PredictionLogReader, name: str, selector: Selector, versions: tuple[ModelVersion, ...]
) -> Served:
    """Return one of the selected versions: of several the one that answered last."""
    last = _last(reader, name, {version.version for version in versions})
    if len(versions) == 1:
        (version,) = versions
        tag = version.tags.get(DIGEST_TAG, "")
        return Served(version.version, tag or (last.digest if last else ""))
    named = " and ".join(sorted(version.version for version in versions))
    note = f"versions {named} are both selected by {selector}"
    if last is None:
        raise NothingToCompare(
            f"of {name!r} {note}, and none has answered",
            advice=f"`greenroom promote {name}` leaves one of them there",
        )
    return Served(last.version, last.digest, f"{note}: this one answered last")


def _answered_last(reader: PredictionLogReader, name: str, note: str) -> Served:
    found = _last(reader, name, None)
    if found is None:
        raise NothingToCompare(
            f"which version of {name!r} is served cannot be told: the log has no answer of it"
            + (f", and {note.partition(':')[0]}" if note else ""),
            advice="see that MLflow answers, or ask the model something",
        )
    return found._replace(note=note)


def _last(reader: PredictionLogReader, name: str, among: set[str] | None) -> Served | None:
    """Return which version answered last, of some versions or of all."""
    for window in _windows():
        rows = _rows(reader, name, window, ("version", "digest"))
        if rows is None:
            return None
        if among is not None:
            wanted = pa.array(sorted(among))
            rows = rows.filter(pc.is_in(rows["version"], value_set=wanted))
        if rows.num_rows:
            last = rows.slice(rows.num_rows - 1).to_pylist()[0]
            return Served(last["version"], last["digest"] or "")
    return None


def _windows() -> Iterator[Window]:
    now = dt.datetime.now(dt.UTC)
    yield from (Window(now - dt.timedelta(hours=hours)) for hours in _SPANS_H)
    yield Window()


def _rows(
    reader: PredictionLogReader, name: str, window: Window, columns: tuple[str, ...]
) -> pa.Table | None:
    """Return rows of the log, the earliest first; None where there is nothing of such a model."""
    try:
        return reader.predictions(name, window, columns=columns)
    except LogError:
        return None
