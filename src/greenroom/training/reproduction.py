"""Reproduction: training a registered version again, and proving that the same comes out.

The recorded candidate is fitted again, from the data as they are now, on the same rows with the
same seed, and compared with what the version carries: the hold-out metrics to the last digit, the
predictions on the reference sample and on the hold-out. Choosing among candidates is not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from greenroom.evaluation.evidence import read_holdout, read_reference
from greenroom.evaluation.metrics import Predictions
from greenroom.model import Model
from greenroom.progress import OnProgress, silent
from greenroom.settings import Settings
from greenroom.training.dataset import load_dataset
from greenroom.training.fitting import Fitted, fit_candidate, prepare
from greenroom.training.provenance import record_code, record_environment
from greenroom.versions.manifest import HOLDOUT_FILE, REFERENCE_FILE, Code, Environment, Manifest

CLOSE: Final = 1e-9
"""Another CPU kernel or thread count sums in another order; coefficients then differ by a few
units in the last place, which a well-conditioned model keeps far below this."""

Verdict = Literal["reproduced", "equal within 1e-9, not bit-identical", "differs", "data differ"]


@dataclass(frozen=True)
class Reproduction:
    """What training again came to.

    Parameters
    ----------
    verdict : str
        ``reproduced`` when every bit is the same; ``data differ`` when there was nothing to
        compare, because the data are not those that the version was trained on.
    differences : tuple of str
        What is not as it was: which hash, which files, which packages, which kernel; and which
        figures differ, and by how much.
    metrics : dict of str to (float, float)
        Each hold-out metric as recorded, and as it is now.
    """

    model: str
    version: str
    verdict: Verdict
    differences: tuple[str, ...]
    metrics: dict[str, tuple[float, float]]

    @property
    def passed(self) -> bool:
        """Whether the version was proven, to the last bit or within the stated bound."""
        return self.verdict in {"reproduced", "equal within 1e-9, not bit-identical"}


def reproduce(
    model: Model,
    folder: Path,
    manifest: Manifest,
    directory: Path,
    *,
    version: str,
    settings: Settings,
    on_progress: OnProgress = silent,
) -> Reproduction:
    """Train a version again and compare.

    Parameters
    ----------
    manifest : Manifest
        The version's.
    directory : Path
        The version's files.

    Raises
    ------
    DataError
        When the data are missing or do not fit the columns any more.
    """
    on_progress("reading the data", None)
    data = manifest.data
    model = replace(model, dataset=data.source) if data.named else model
    dataset = load_dataset(
        model,
        folder,
        rows=data.n_rows if data.n_available else 0,
        generated=settings.generated or data.generated,
        on_progress=on_progress,
    )
    differences = [
        *_code_differences(manifest.code, record_code(folder)),
        *_environment_differences(manifest.environment, record_environment()),
    ]
    if dataset.content_hash != manifest.data.content_hash:
        other = (
            f"data: content_hash is {dataset.content_hash}, version {version} was trained on "
            f"{manifest.data.content_hash}"
        )
        return Reproduction(model.name, version, "data differ", (other, *differences), {})
    if dataset.dataset_hash != manifest.data.dataset_hash:
        differences.append(
            f"data: the file's bytes differ (dataset_hash {dataset.dataset_hash}, recorded "
            f"{manifest.data.dataset_hash}); its content is the same"
        )
    on_progress(f"fitting {manifest.candidate} again", None)
    prepared = prepare(model, folder, dataset)
    fitted = fit_candidate(prepared, manifest.candidate, reference_rows=settings.reference_rows)
    on_progress("comparing", None)
    verdict, found = _compare(manifest, directory, fitted)
    metrics = {
        name: (value, fitted.metrics.get(name, float("nan")))
        for name, value in manifest.metrics.items()
    }
    return Reproduction(model.name, version, verdict, (*found, *differences), metrics)


def _compare(
    manifest: Manifest, directory: Path, fitted: Fitted
) -> tuple[Verdict, tuple[str, ...]]:
    holdout = read_holdout(directory / HOLDOUT_FILE, manifest.classes)
    _, _, reference = read_reference(directory / REFERENCE_FILE, manifest.schema, manifest.classes)
    if not np.array_equal(holdout.keys, fitted.holdout.keys):
        return "differs", ("hold-out: other rows are held out",)
    largest, found = 0.0, []
    for name, value in manifest.metrics.items():
        distance = _distance(value, fitted.metrics.get(name, np.nan))
        if distance:
            found.append(f"{name}: {value!r} was {fitted.metrics.get(name)!r} now")
        largest = max(largest, distance)
    pairs = (
        ("the reference sample", reference, fitted.reference_predictions),
        ("the hold-out", holdout.predictions, fitted.holdout.predictions),
    )
    for where, before, now in pairs:
        distance, rows = _prediction_distance(before, now)
        if distance:
            found.append(f"predictions on {where}: {rows} rows differ, by up to {distance:.3g}")
        largest = max(largest, distance)
    if largest == 0:
        return "reproduced", ()
    if largest <= CLOSE:
        return "equal within 1e-9, not bit-identical", tuple(found)
    return "differs", tuple(found)


def _prediction_distance(before: Predictions, now: Predictions) -> tuple[float, int]:
    """Return the largest difference of any output, and how many rows differ in any bit."""
    if len(before) != len(now) or before.outputs.keys() != now.outputs.keys():
        return float("inf"), max(len(before), len(now))
    largest, different = 0.0, np.zeros(len(now), dtype=bool)
    for name, old in before.outputs.items():
        new = now.outputs[name]
        if old.dtype.kind == "f" and new.dtype.kind == "f" and old.shape == new.shape:
            unequal = ~((old == new) | (np.isnan(old) & np.isnan(new)))
            gap = np.abs(old - new)[unequal]
            largest = max(largest, float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0)))
        else:
            unequal = np.array([str(a) != str(b) for a, b in zip(old, new, strict=True)])
            largest = float("inf") if unequal.any() else largest
        different |= unequal.reshape(len(now), -1).any(axis=1)
    return largest, int(different.sum())


def _distance(before: float, now: float) -> float:
    if before == now or (np.isnan(before) and np.isnan(now)):
        return 0.0
    return float(np.nan_to_num(abs(before - now), nan=np.inf))


def _code_differences(before: Code, now: Code) -> list[str]:
    if before.code_hash == now.code_hash:
        return []
    return [f"code: {text}" for text in _changes(before.files, now.files)]


def _environment_differences(before: Environment, now: Environment) -> list[str]:
    found = [f"package: {text}" for text in _changes(before.packages, now.packages, values=True)]
    for what, old, new in (
        ("python", before.python, now.python),
        ("processor", f"{before.machine} {before.cpu}", f"{now.machine} {now.cpu}"),
        ("threads", before.n_threads, now.n_threads),
        ("kernel", ", ".join(before.blas), ", ".join(now.blas)),
    ):
        if old != new:
            found.append(f"{what}: {old} was recorded, {new} is here")
    return found


def _changes(
    before: Mapping[str, Any], now: Mapping[str, Any], *, values: bool = False
) -> list[str]:
    texts = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if old is None:
            texts.append(f"{name} is new" + (f" ({new})" if values else ""))
        elif new is None:
            texts.append(f"{name} is gone" + (f" (was {old})" if values else ""))
        else:
            texts.append(f"{name} {old}, now {new}" if values else f"{name} has changed")
    return texts
