"""What a training says of itself in a file, while it runs and when it is over.

The training writes it, whoever watches reads it: a server whose job it is, or a script that gave
``greenroom train --progress-file``. It is replaced as a whole, so that no half of it is ever read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from greenroom.errors import GreenroomError, ProcessError
from greenroom.timestamps import timestamp_now

__all__ = ["ReportFile", "TrainedModel", "TrainingReport", "read_report"]

PAUSE_S: Final = 0.2
"""How often progress is written at most; what is new is written at once."""

_LONGEST_PROBLEM: Final = 2_000


class TrainedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What the training of one model came to.

    ``metrics`` are the hold-out's, ``reasons`` the gate's. ``outcome`` is that of
    :class:`greenroom.training.release.Release`; without a ``version`` nothing was registered.
    """

    model: str
    outcome: Literal["promoted", "registered", "refused", "unchanged"]
    version: str = ""
    run_id: str = ""
    run_url: str = ""
    candidate: str = ""
    metrics: dict[str, float] = {}
    reasons: tuple[str, ...] = ()
    dataset: str = ""
    n_rows: int = 0
    trial: bool = False


class TrainingReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a training is or went.

    ``doing`` says what is being done, ``share`` how much of that is done (0 to 1) where it is
    known. ``error`` is the name of the class in :mod:`greenroom.errors` that ended it.
    """

    state: Literal["running", "done", "failed"] = "running"
    doing: str = ""
    share: float | None = None
    updated_at: str = ""
    models: tuple[TrainedModel, ...] = ()
    error: str = ""
    problem: str = ""


class ReportFile:
    """The file of one training, for whoever trains.

    Parameters
    ----------
    path : Path
        Its folder exists.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "report.json"
    >>> with ReportFile(path).kept() as file:
    ...     file.on_progress("fitting", 0.5)
    ...     print(read_report(path).state, read_report(path).doing)
    running fitting
    >>> read_report(path).state
    'done'
    >>> folder.cleanup()
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._report = TrainingReport()
        self._written_s = 0.0
        self._begun = False

    @contextmanager
    def kept(self) -> Iterator[ReportFile]:
        """Write the file for as long as the block runs, and in the end how it went.

        Raises
        ------
        ProcessError
            When the file cannot be written, before anything is done.
        """
        self._write()
        self._begun = True
        try:
            yield self
        except KeyboardInterrupt:
            self._fail("", "it was stopped")
            raise
        except GreenroomError as error:
            self._fail(type(error).__name__, str(error))
            raise
        except Exception as error:
            reason = " ".join(str(error).split())
            self._fail("", f"{type(error).__name__}: {reason}".rstrip(": "))
            raise
        self._change(state="done", doing="", share=None)

    def on_progress(self, text: str, share: float | None) -> None:
        """Note what is being done."""
        new = text != self._report.doing
        self._report = msgspec.structs.replace(self._report, doing=text, share=share)
        if new or time.monotonic() - self._written_s >= PAUSE_S:
            self._write()

    def trained(self, model: TrainedModel) -> None:
        """Note what the training of one model came to."""
        self._change(models=(*self._report.models, model))

    def _fail(self, error: str, problem: str) -> None:
        self._change(state="failed", error=error, problem=problem[:_LONGEST_PROBLEM])

    def _change(self, **changes: object) -> None:
        self._report = msgspec.structs.replace(self._report, **changes)
        self._write()

    def _write(self) -> None:
        self._written_s = time.monotonic()
        self._report = msgspec.structs.replace(self._report, updated_at=timestamp_now())
        beside = self._path.with_name(f"{self._path.name}.new")
        try:
            beside.write_bytes(msgspec.json.encode(self._report))
            beside.replace(self._path)
        except OSError as error:
            if self._begun:
                return  # a disk that has filled up meanwhile is no reason to lose a training
            raise ProcessError(
                f"{self._path} cannot be written: {error.strerror}",
                advice="name another file, in a folder that is there",
            ) from error


def read_report(path: Path) -> TrainingReport | None:
    """Read what a training says of itself; None where it has said nothing that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrainingReport)
    except (OSError, msgspec.DecodeError):
        return None
