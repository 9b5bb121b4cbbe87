"""The reference: what a version was trained on, which a window is compared with.

It travels inside the version: a sample of its training rows and, for what it answers, the rows that
were held out. A model is surer of rows that it was trained on than of others, so that answers to
those would drift without anything having happened. Where rows were held out by time, they are of
one season, and the training sample has to do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from greenroom.errors import MonitoringError
from greenroom.evaluation.evidence import read_holdout, read_reference
from greenroom.evaluation.predictions import Predictions
from greenroom.log.log_rows import column_names
from greenroom.privacy import Privacy
from greenroom.redaction import rounded
from greenroom.schema import Column, Columns
from greenroom.versions.manifest import HOLDOUT_FILE, REFERENCE_FILE, Manifest, read_manifest

__all__ = ["Reference", "read_reference_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a window is compared with.

    Parameters
    ----------
    manifest : Manifest
        The version's.
    columns : Columns
        A sample of the training rows, by the model's columns; n_samples each.
    y : ndarray, shape (n_samples,), optional
        Their truth.
    predictions : Predictions
        What the version says of them.
    answers : Predictions
        What drift of answers is measured from: what the version says of held-out rows, or
        ``predictions``.
    held_out : bool
        Whether ``answers`` are of held-out rows.
    names : dict of str to str
        What each column is called in a window; those that are not in it are not compared.
    aside : dict of str to str
        Columns that are not compared, and why not.
    """

    manifest: Manifest
    columns: Columns
    y: npt.NDArray[Any] | None
    predictions: Predictions
    answers: Predictions
    held_out: bool
    names: dict[str, str]
    aside: dict[str, str]

    def __len__(self) -> int:
        return len(self.predictions)

    def in_log(self, privacy: Privacy | None = None) -> Reference:
        """Return the reference for a window of the prediction log.

        The log has the columns of requests, under names that tables take. Where a request is
        something else than the model's rows, the columns that both have are compared.

        Parameters
        ----------
        privacy : Privacy, optional
            What the log does not keep as it was sent: what is rounded there is rounded here too,
            what is hashed or left out is set aside.
        """
        rules = privacy or Privacy()
        request = {column.name: column for column in self.manifest.request_schema}
        called = column_names(list(request), list(self.predictions.outputs))
        columns, names, aside = dict(self.columns), dict[str, str](), dict(self.aside)
        for column in self.manifest.columns:
            own = request.get(column.name)
            why = _why_not(column, own, rules)
            if why or own is None:
                aside[column.name] = why
                continue
            names[column.name] = called[column.name]
            steps = [rules.rounded[name] for name in _called(own) if name in rules.rounded]
            if steps:
                columns[column.name] = rounded(columns[column.name], max(steps))
        return replace(self, columns=columns, names=names, aside=aside)


def read_reference_of(directory: Path) -> Reference:
    """Read the reference that travels inside a version; for a window of the model's own columns.

    Parameters
    ----------
    directory : Path
        The version's files, as the model store has them.

    Raises
    ------
    MonitoringError
        When the version does not carry one.
    VersionCorrupt
        When it cannot be read.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        raise MonitoringError(
            "the version was not trained by Greenroom: it does not say what it was trained on",
            advice="train it with `greenroom train` to have its drift watched",
        )
    columns, y, predictions = read_reference(
        directory / REFERENCE_FILE, manifest.schema, manifest.classes
    )
    answers, held_out = predictions, False
    if not manifest.split.time and (directory / HOLDOUT_FILE).is_file():
        holdout = read_holdout(directory / HOLDOUT_FILE, manifest.classes)
        if len(holdout):
            answers, held_out = holdout.predictions, True
    return Reference(
        manifest=manifest,
        columns=columns,
        y=y,
        predictions=predictions,
        answers=answers,
        held_out=held_out,
        names={name: name for name in columns},
        aside={},
    )


def _why_not(column: Column, own: Column | None, rules: Privacy) -> str:
    """Return why a column of the model cannot be compared in the log; empty where it can be."""
    if own is None:
        return "requests do not hold it: it is made of them"
    if own.kind != column.kind:
        return f"requests hold it as {own.kind}, the model as {column.kind}"
    if _called(own) & set(rules.left_out):
        return "the log leaves it out"
    if _called(own) & set(rules.hashed):
        return "the log keeps hashes of it"
    return ""


def _called(column: Column) -> set[str]:
    return {column.name, column.request_name}
