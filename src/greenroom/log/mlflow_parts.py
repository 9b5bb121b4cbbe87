"""What a segment holds for MLflow: the predictions of each version and day, as figures and as rows.

Which of them are sent, and how, is :mod:`greenroom.log.mlflow_planning`'s business.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from greenroom.errors import SpoolCorrupt
from greenroom.log.log_records import Answers, Version, read_record
from greenroom.log.outbox import RunKey
from greenroom.log.segments import Segment
from greenroom.task import TASKS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Part", "read_parts", "read_table"]

_Groups: TypeAlias = list[tuple[Version, list[Answers]]]


@dataclass(frozen=True, slots=True)
class Part:
    """The predictions of one version on one day, of one segment, in their order.

    Attributes
    ----------
    at_us : array of shape (n_rows,)
        When each was answered, in microseconds since 1970; never falls.
    latency_ms : array of shape (n_rows,)
    outputs : mapping of str to array of shape (n_rows,)
        Those that are one number; missing ones are not a number.
    """

    at_us: npt.NDArray[np.int64]
    latency_ms: npt.NDArray[np.float64]
    outputs: Mapping[str, npt.NDArray[np.float64]]

    @property
    def n_rows(self) -> int:
        """How many predictions there are."""
        return len(self.at_us)

    def between(self, start: int, end: int) -> Part:
        """Return some of the predictions."""
        outputs = {name: values[start:end] for name, values in self.outputs.items()}
        return Part(self.at_us[start:end], self.latency_ms[start:end], outputs)

    @staticmethod
    def joined(parts: list[Part]) -> Part:
        """Return the predictions of several parts of one version."""
        names = dict.fromkeys(name for part in parts for name in part.outputs)
        return Part(
            np.concatenate([part.at_us for part in parts]),
            np.concatenate([part.latency_ms for part in parts]),
            {
                name: np.concatenate(
                    [part.outputs.get(name, np.full(part.n_rows, np.nan)) for part in parts]
                )
                for name in names
            },
        )


def read_parts(path: Path) -> dict[RunKey, Part]:
    """Read the figures of what a segment holds for MLflow.

    Raises
    ------
    OSError, SpoolCorrupt
        When it cannot be read.
    """
    return {key: _part(groups) for key, groups in _grouped(path).items()}


def read_table(path: Path, key: RunKey) -> pa.Table:
    """Read the rows of a key in a segment, as the log's tables have them, in a part's order.

    Raises
    ------
    OSError, SpoolCorrupt
        When it cannot be read.
    """
    import pyarrow as pa

    from greenroom.log.log_rows import prediction_rows

    rows = [prediction_rows(version, answers) for version, answers in _grouped(path)[key]]
    return pa.concat_tables(rows, promote_options="default")


def _grouped(path: Path) -> dict[RunKey, _Groups]:
    versions: dict[int, Version] = {}
    found: dict[RunKey, dict[int, list[Answers]]] = {}
    for payload in Segment(path).frames():
        try:
            record = read_record(payload)
        except msgspec.DecodeError as error:
            raise SpoolCorrupt(f"{path} holds what is no record: {error}") from error
        if isinstance(record, Version):
            versions[record.number] = record
        elif isinstance(record, Answers) and versions[record.version].to_mlflow:
            key = _key(versions[record.version], record)
            found.setdefault(key, {}).setdefault(record.version, []).append(record)
    return {
        key: [(versions[number], answers) for number, answers in groups.items()]
        for key, groups in found.items()
    }


def _key(version: Version, answers: Answers) -> RunKey:
    at = dt.datetime.fromtimestamp(answers.at_us / 1e6, dt.UTC)
    return RunKey(at.date().isoformat(), version.model, version.name, version.version)


def _part(groups: _Groups) -> Part:
    at_us: list[int] = []
    latency_ms: list[float] = []
    names = dict.fromkeys(name for version, _ in groups for name in _numbers(version))
    outputs: dict[str, list[float | None]] = {name: [] for name in names}
    for version, answers in groups:
        for record in answers:
            lengths = [len(request.ids) for request in record.requests]
            for request, length in zip(record.requests, lengths, strict=True):
                latency_ms += [request.latency_us / 1_000] * length
            at_us += [record.at_us] * sum(lengths)
            values = dict(zip(version.outputs, record.outputs, strict=True))
            for name in names:
                outputs[name] += values.get(name, [None] * sum(lengths))
    return Part(
        # Calls of several threads may be noted in another order than they were timed in.
        np.maximum.accumulate(np.asarray(at_us, np.int64)),
        np.asarray(latency_ms, np.float64),
        {name: np.asarray(values, np.float64) for name, values in outputs.items()},
    )


def _numbers(version: Version) -> list[str]:
    """Return the outputs that are one number."""
    kinds = {output.name: output.kind for output in TASKS[version.task].outputs}
    return [name for name in version.outputs if kinds.get(name) == "number"]
