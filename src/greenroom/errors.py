"""Every error that Greenroom raises on purpose, drawn as one tree.

A message says what failed and for which object; ``advice`` says what to do next. The command line
prints both on one line; the server puts them into a reply. There is no HTTP status here: which
status an error becomes is decided in :mod:`greenroom.http.serving` alone.

::

    GreenroomError
    ├── AppError                an app's definition is wrong; all problems at once
    ├── SettingsError           a setting is unknown or has a value that cannot be used
    ├── DataError               a dataset is missing, or does not fit the app's columns
    │   └── DataMissing         the file is not there
    ├── RegistryError           the model registry refused, or answered nonsense
    │   ├── RegistryUnavailable it could not be reached in time
    │   ├── NotInRegistry       no such model, version or alias
    │   └── NothingSelected     the selector names no version
    ├── RegistrationError       of a folder of models, several cannot be registered
    ├── PromotionError          a promotion or rollback cannot be carried out
    │   ├── PromotionRefused    the gate judged the candidate and said no
    │   └── PromotionUnderway   another one has been begun and not ended
    ├── VersionError            a version cannot be served
    │   ├── VersionCorrupt      its files are incomplete or not the ones that were registered
    │   └── VersionUnloadable   its files are right, but it does not load or does not predict
    ├── NotConvertible          an estimator cannot be compiled, or the result not be proved
    ├── RequestError            a request cannot be answered as it was sent
    │   ├── RequestMalformed    the body is not JSON, or not of the expected outline
    │   ├── RequestInvalid      one or more fields are wrong; every one is named
    │   └── RowsRefused         the fields are right, and the model takes no such values
    ├── NotServing              nothing is loaded for this route at the moment
    ├── CallerRefused           a caller may not have what it asks for
    │   ├── NotAuthenticated    it sends no token, or none that is known
    │   └── NotAllowed          its token is known and has not the scope
    ├── TooBusy                 as many requests as may be are being answered
    ├── TookTooLong             an answer was not there in time
    ├── TrainingUnderway        a training runs already, and one runs at a time
    ├── LogError                the prediction log cannot be written or read
    │   ├── SpoolFull           there is no room for another prediction
    │   ├── SpoolCorrupt        a file of it is not what it should be
    │   ├── LogUnavailable      its tables cannot be reached
    │   └── NothingLogged       it has no prediction of a model
    ├── MonitoringError         there is nothing to compare, or what was found cannot be read
    └── ProcessError            a child process, a port or a folder stands in the way
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple

__all__ = [
    "AppError",
    "CallerRefused",
    "DataError",
    "DataMissing",
    "FieldProblem",
    "GreenroomError",
    "LogError",
    "LogUnavailable",
    "MonitoringError",
    "NotAllowed",
    "NotAuthenticated",
    "NotConvertible",
    "NotInRegistry",
    "NotServing",
    "NothingLogged",
    "NothingSelected",
    "ProcessError",
    "PromotionError",
    "PromotionRefused",
    "PromotionUnderway",
    "RegistrationError",
    "RegistryError",
    "RegistryUnavailable",
    "RequestError",
    "RequestInvalid",
    "RequestMalformed",
    "RowsRefused",
    "SettingsError",
    "SpoolCorrupt",
    "SpoolFull",
    "TooBusy",
    "TookTooLong",
    "TrainingUnderway",
    "VersionCorrupt",
    "VersionError",
    "VersionUnloadable",
    "collected_refusals",
    "refuse",
]


class GreenroomError(Exception):
    """The root: what failed, for which object, and what to do next.

    Parameters
    ----------
    message : str
        What failed, naming the object. No full stop at the end.
    advice : str, optional
        What the reader can do about it: a command, a setting, a place to look.

    Examples
    --------
    >>> str(GreenroomError("port 8000 is taken", advice="set GREENROOM_PORT"))
    'port 8000 is taken; set GREENROOM_PORT'
    """

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}; {self.advice}" if self.advice else self.message


class AppError(GreenroomError):
    """An app's definition is wrong. ``problems`` lists each, as ``field: what is wrong``."""

    def __init__(self, message: str, *, problems: Sequence[str] = (), advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.problems = tuple(problems)


_collected: Final[ContextVar[list[AppError] | None]] = ContextVar("collected", default=None)


def refuse(error: AppError) -> None:
    """Raise ``error``, or note it where refusals are collected.

    What a value of an app's definition calls when it is built wrong.
    """
    collected = _collected.get()
    if collected is None:
        raise error
    collected.append(error)


@contextmanager
def collected_refusals() -> Iterator[list[AppError]]:
    """Let wrong values of an app be built inside the block, and give what was wrong with each.

    For ``greenroom check`` alone: one broken model must not hide the next.

    Examples
    --------
    >>> with collected_refusals() as refusals:
    ...     refuse(AppError("column 'a': kind is unknown"))
    ...     refuse(AppError("column 'b': kind is unknown"))
    >>> len(refusals)
    2
    """
    refusals: list[AppError] = []
    token = _collected.set(refusals)
    try:
        yield refusals
    finally:
        _collected.reset(token)


class SettingsError(GreenroomError):
    """A setting is unknown, or its value cannot be used."""


class DataError(GreenroomError):
    """A dataset does not fit the columns that the app declares."""


class DataMissing(DataError):
    """A dataset's file is not there."""


class RegistryError(GreenroomError):
    """The model registry refused a call, or answered something that makes no sense.

    ``mlflow_answers`` says whether it was MLflow itself that refused.
    """

    def __init__(self, message: str, *, advice: str = "", mlflow_answers: bool = False) -> None:
        super().__init__(message, advice=advice)
        self.mlflow_answers = mlflow_answers


class RegistryUnavailable(RegistryError):
    """The model registry could not be reached in time."""


class NotInRegistry(RegistryError):
    """There is no such registered model, version or alias."""


class NothingSelected(RegistryError):
    """The registry was reached, and the selector names no version."""


class RegistrationError(GreenroomError):
    """Of a folder of models, several cannot be registered; ``problems`` says why, one by one."""

    def __init__(self, message: str, problems: Sequence[GreenroomError]) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class PromotionError(GreenroomError):
    """A promotion or a rollback cannot be carried out."""


class PromotionRefused(PromotionError):
    """The gate judged the candidate and refused it; the message holds the figures."""


class PromotionUnderway(PromotionError):
    """Another promotion of the same model has been begun and has not ended."""


class VersionError(GreenroomError):
    """A model version cannot be served; ``model`` is the app's name for it, where that is known."""

    def __init__(self, message: str, *, model: str = "", advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.model = model


class VersionCorrupt(VersionError):
    """A version's files are incomplete, or are not the ones that were registered."""


class VersionUnloadable(VersionError):
    """A version's files are right, but it does not load or does not predict."""


class NotConvertible(GreenroomError):
    """An estimator, or the way it was fitted, is not one that can be compiled and proved."""


class RequestError(GreenroomError):
    """A request cannot be answered as it was sent."""


class RequestMalformed(RequestError):
    """The body is not JSON, or has not the outline of a row or of a list of rows."""


class FieldProblem(NamedTuple):
    """One bad field of one row; never holds the value itself, which may be private."""

    row: int
    field: str
    problem: str


class RequestInvalid(RequestError):
    """One or more fields are wrong; ``problems`` names every one of them."""

    def __init__(self, message: str, problems: Sequence[FieldProblem], *, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.problems = tuple(problems)


class RowsRefused(RequestError, ValueError):
    """The rows fit the columns, and the estimator takes no such values all the same."""


class NotServing(GreenroomError):
    """Nothing is loaded for this route at the moment."""


class CallerRefused(GreenroomError):
    """A caller may not have what it asks for; ``challenge`` says what would do (RFC 6750)."""

    def __init__(self, message: str, *, challenge: str, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.challenge = challenge


class NotAuthenticated(CallerRefused):
    """A caller sends no token, or one that is not known, or not any more."""


class NotAllowed(CallerRefused):
    """A caller's token is known, and what it asks for needs another scope."""


class TooBusy(GreenroomError):
    """As many requests as may be at a time are being answered; ``retry_after_s`` says when."""

    def __init__(self, message: str, *, retry_after_s: int = 1, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.retry_after_s = retry_after_s


class TookTooLong(GreenroomError):
    """An answer was not there in time."""


class TrainingUnderway(GreenroomError):
    """A training was asked for over HTTP, and another one runs; the message names it."""


class LogError(GreenroomError):
    """The prediction log cannot be written or read."""


class SpoolFull(LogError):
    """There is no room for another prediction in the log."""


class SpoolCorrupt(LogError):
    """A file of the prediction log is not what it should be."""


class LogUnavailable(LogError):
    """The tables of the prediction log cannot be reached, read or written."""


class NothingLogged(LogError):
    """The prediction log has no prediction of a model."""


class MonitoringError(GreenroomError):
    """There is nothing to compare, or what monitoring found cannot be read."""


class NothingToCompare(MonitoringError):
    """Nothing is served, or nothing was predicted in the window."""


class ProcessError(GreenroomError):
    """A child process, a port or a folder stands in the way."""
