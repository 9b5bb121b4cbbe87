"""Succession: what the present champion says about rows that came after its training.

Where rows are divided by time, the hold-out moves on as data grow: a champion and a challenger
that is trained months later may hold out no row in common. But rows later than all that the
champion was trained on are as new to it as if it had held them out. So a training that holds out
such rows has the champion answer them, and its version carries the answers, as evidence for the
gate. Judging by it is :mod:`greenroom.promotion.judging`'s business.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import structs

from greenroom.errors import VersionError
from greenroom.evaluation.evidence import HoldOut
from greenroom.evaluation.metrics import Predictions
from greenroom.inference.runtime import Trust, load_runtime
from greenroom.progress import OnProgress, silent
from greenroom.promotion.judging import Comparison, champion_of, read_carried
from greenroom.registry.registry import ModelVersion, Registry
from greenroom.schema import Columns, take
from greenroom.selector import Selector
from greenroom.training.fitting import Prepared
from greenroom.versions.manifest import Manifest


def succeeding(manifest: Manifest, prepared: Prepared, comparison: Comparison | None) -> Manifest:
    """Return a version's manifest with until when it was trained, and whose answers it carries."""
    champion = comparison.version if comparison else ""
    return structs.replace(manifest, trained_until=_trained_until(prepared), champion=champion)


def compared_with_champion(
    registry: Registry,
    name: str,
    selector: Selector,
    challenger: HoldOut,
    prepared: Prepared,
    trust: Trust = "any",
    on_progress: OnProgress = silent,
) -> Comparison | None:
    """Have the champion answer the held-out rows that came after its training.

    Parameters
    ----------
    name : str
        The registered name.
    selector : Selector
        What selects the champion, where the model's gate names nothing else.
    challenger : HoldOut
        What it says about its own held-out rows.
    prepared : Prepared
        Its rows.
    trust : {"any", "onnx"}
        With ``onnx`` nothing is unpickled: then a champion without a proved graph says nothing.

    Returns
    -------
    Comparison or None
        None where nothing has to be said: rows are not divided by time, there is no champion, it
        holds out the same rows itself, it does not say until when it was trained, none of the rows
        are later, or it takes other columns or does not load here. The gate then goes by the rows
        that both hold out.

    Raises
    ------
    RegistryError
        When the registry fails.
    """
    time = prepared.model.split.time
    gate = prepared.model.gate
    champion = champion_of(registry, name, selector, gate) if time else None
    if champion is None:
        return None
    carried = read_carried(registry, champion)
    if carried is None or not _comparable(carried.manifest, prepared, challenger):
        return None
    if np.isin(challenger.keys, carried.holdout.keys).all():
        return None
    rows = _later(prepared, carried.manifest.trained_until)
    if not len(rows):
        return None
    on_progress(f"asking version {champion.version} about rows later than its training", None)
    columns = take(prepared.dataset.columns, rows)
    said = _answers(registry, champion, columns, trust, prepared)
    if said is None or len(said) != len(rows):
        return None
    y = None if prepared.y is None else prepared.y[rows]
    return Comparison(champion.version, HoldOut(prepared.keys[rows], y, said))


def _comparable(manifest: Manifest, prepared: Prepared, challenger: HoldOut) -> bool:
    """Whether a champion says until when it was trained, and answers the same question."""
    model = prepared.model
    return bool(
        manifest.trained_until
        and manifest.task == model.task.name
        and manifest.split.time == model.split.time
        and tuple(manifest.classes) == tuple(challenger.predictions.classes)
        and set(manifest.schema.names) <= set(prepared.dataset.columns)
    )


def _later(prepared: Prepared, until: str) -> npt.NDArray[Any]:
    times = prepared.dataset.columns[prepared.model.split.time][prepared.holdout]
    return prepared.holdout[times > np.datetime64(until.removesuffix("Z"), "us")]


def _answers(
    registry: Registry,
    champion: ModelVersion,
    columns: Columns,
    trust: Trust,
    prepared: Prepared,
) -> Predictions | None:
    """Return what the champion says about rows of the data; None where it cannot be asked."""
    digests = (prepared.features.digest,) if prepared.features else ()
    with tempfile.TemporaryDirectory(prefix="greenroom-") as folder:
        for file in registry.files(champion):
            registry.download(champion, file.path, Path(folder))
        try:
            runtime = load_runtime(Path(folder), trust=trust, features_digests=digests)
            return runtime.predict_rows(columns)
        except (VersionError, KeyError, ValueError):
            return None


def _trained_until(prepared: Prepared) -> str:
    """Return the instant of the last training row (ISO 8601, UTC); empty without a time."""
    name = prepared.model.split.time
    if not name:
        return ""
    times = prepared.dataset.columns[name][prepared.train]
    known = times[~np.isnat(times)]
    return f"{known.max()}Z" if len(known) else ""
