"""Replies: what a model said about some rows, as the JSON that a client gets.

A reply type is compiled once when a version loads; which fields a reply has, and what fills each,
is the app's to say. What is the same in every reply of a version is encoded then. One row that was
sent by itself is answered with one flat object; a list is answered with a list, and what the rows
share stands beside it once. HTTP is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import repeat, starmap
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from greenroom.errors import AppError
from greenroom.evaluation.predictions import Predictions
from greenroom.model import REPLY_SOURCES
from greenroom.task import Task

__all__ = ["ReplyType", "Told", "class_text", "instant_texts", "to_json"]

_PER_REQUEST: Final = ("timestamp", "processing_time_ms", "mlflow_logged")
_PER_ROW: Final = "prediction_id"
_CONSTANTS: Final = tuple(s for s in REPLY_SOURCES if s not in {*_PER_REQUEST, _PER_ROW})

_ByClass: TypeAlias = Callable[..., Any]
"""Makes an object with a field for each class of as many values."""

_Values: TypeAlias = Callable[[Predictions, str, _ByClass], list[Any]]
"""Returns what a reply holds of an output, for each row."""


class Told(NamedTuple):
    """What is of a request, and not of its rows.

    Parameters
    ----------
    timestamp : str
        When it was answered, ISO 8601 in UTC.
    processing_time_ms : float
        How long it took, in milliseconds.
    mlflow_logged : bool
        Whether what was answered is on its way to MLflow, for sure.
    """

    timestamp: str
    processing_time_ms: float
    mlflow_logged: bool = False


class _Layout(NamedTuple):
    """Where everything goes: objects with the constants in place, and what is still to be set."""

    flat: dict[str, Any]
    shared: dict[str, Any]
    row: Callable[..., Any]
    nulls: tuple[None, ...]
    per_row: tuple[tuple[str, str], ...]
    per_request: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, _Values], ...]


class Cells(NamedTuple):
    """Predictions as plain values: where they go, and for each output a list over all rows."""

    layout: _Layout
    columns: Mapping[str, Sequence[Any]]


class ReplyType:
    """What a version's replies look like, compiled; made by :meth:`compile`.

    Attributes
    ----------
    fields : dict of str to str
        The fields of a reply in their order, and the source of each: an output of the task, or
        one of :data:`greenroom.app.REPLY_SOURCES`.
    class_names : tuple of str
        A classifier's labels as they are spelled in ``probabilities``.
    """

    def __init__(
        self,
        task: Task,
        classes: Sequence[Any],
        fields: Mapping[str, str],
        constants: Mapping[str, Any],
    ) -> None:
        self.task: Final = task
        self.class_names: Final = tuple(class_text(label) for label in classes)
        self.fields: Final = dict(fields) or _every_field(task, constants)
        self._asked_for: Final = bool(fields)
        self._encode: Final = msgspec.json.Encoder(enc_hook=to_json).encode
        self._outputs: Final = {output.name: output for output in task.outputs}
        self._constants: Final = {
            source: msgspec.Raw(self._encode(value)) for source, value in constants.items()
        }
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        problems = self._problems()
        if problems:
            raise AppError("; ".join(problems), problems=problems)
        self._by_class: Final = _record(self.class_names)

    @classmethod
    def compile(
        cls,
        task: Task,
        classes: Sequence[Any],
        fields: Mapping[str, str],
        constants: Mapping[str, Any],
    ) -> ReplyType:
        """Compile the type of replies to the requests of one version.

        Parameters
        ----------
        task : Task
            What outputs there are.
        classes : sequence
            A classifier's labels, one for each column of ``probabilities``; else empty.
        fields : mapping of str to str
            The fields of a reply and the source of each; empty for everything there is. A field
            that is asked for and cannot be filled (a classifier without probabilities) is null;
            where everything is asked for, it is left out.
        constants : mapping of str to object
            What is the same in every reply: ``model_name``, ``model_version``, ``model_stage``.

        Raises
        ------
        AppError
            When a field's source is none, or two classes are spelled alike.

        Examples
        --------
        >>> from greenroom import regression
        >>> reply = ReplyType.compile(regression, (), {"price": "prediction"}, {})
        >>> reply.encode(Predictions({"prediction": np.array([2.5])}), single=True, ids=["1"],
        ...              timestamp="2026-11-21T10:30:00Z", processing_time_ms=0.2)
        b'{"price":2.5}'
        """
        return cls(task, classes, fields, constants)

    def encode(
        self,
        predictions: Predictions,
        *,
        single: bool,
        ids: Sequence[str],
        timestamp: str,
        processing_time_ms: float,
    ) -> bytes:
        """Encode the reply for some rows; a number that is not finite becomes null.

        Parameters
        ----------
        predictions : Predictions
            At least one row.
        single : bool
            Answer with one flat object; there must be exactly one row then.
        ids : sequence of str
            A prediction id for each row.
        timestamp : str
            When it was answered, ISO 8601 in UTC.
        processing_time_ms : float
            How long it took, in milliseconds.
        """
        cells = self.cells(predictions)
        told = Told(timestamp, processing_time_ms)
        if not single:
            return self.encode_list(cells, 0, len(predictions), ids, told)
        (prediction_id,) = ids
        if len(predictions) != 1:
            raise ValueError(f"one object is to answer {len(predictions)} rows")
        return self.encode_row(cells, 0, prediction_id, told)

    def cells(self, predictions: Predictions) -> Cells:
        """Turn predictions into plain values once, for all the replies that hold a part of them."""
        layout = self._layout(tuple(predictions.outputs))
        columns = {
            name: values(predictions, name, self._by_class) for name, values in layout.outputs
        }
        return Cells(layout, columns)

    def encode_row(self, cells: Cells, row: int, prediction_id: str, told: Told) -> bytes:
        """Encode one row's reply as one flat object."""
        layout, columns = cells
        document = layout.flat.copy()
        for name, source in layout.per_row:
            document[name] = prediction_id if source == _PER_ROW else columns[source][row]
        for name, source in layout.per_request:
            document[name] = _OF_REQUEST[source](told)
        return self._encode(document)

    def encode_list(
        self,
        cells: Cells,
        first: int,
        end: int,
        ids: Sequence[str],
        told: Told,
    ) -> bytes:
        """Encode the reply for the rows from ``first`` up to ``end`` as a list."""
        layout, columns = cells
        document = layout.shared.copy()
        for name, source in layout.per_request:
            document[name] = _OF_REQUEST[source](told)
        if len(ids) != end - first:
            raise ValueError(f"there are {len(ids)} ids for {end - first} rows")
        parts = [ids if s == _PER_ROW else columns[s][first:end] for _, s in layout.per_row]
        document["predictions"] = list(map(layout.row, *map(repeat, layout.nulls), *parts))
        return self._encode(document)

    def fields_for(self, given: Collection[str]) -> dict[str, str]:
        """Return the fields of a reply, and their sources, when a model gives these outputs."""
        return {
            name: source
            for name, source in self.fields.items()
            if source in given or source not in self._outputs or self._asked_for
        }

    def _layout(self, given: tuple[str, ...]) -> _Layout:
        """Return where everything goes when a model gives these outputs; made once for each."""
        if given not in self._layouts:
            self._layouts[given] = self._lay_out(given)
        return self._layouts[given]

    def _lay_out(self, given: tuple[str, ...]) -> _Layout:
        filled = {*given, *self._constants, *_PER_REQUEST, _PER_ROW}
        fields = self.fields_for(given)
        of_row = {name: s for name, s in fields.items() if s == _PER_ROW or s in self._outputs}
        null = [name for name, source in of_row.items() if source not in filled]
        full = {name: source for name, source in of_row.items() if source in filled}
        return _Layout(
            flat={name: self._constants.get(source) for name, source in fields.items()},
            shared={"predictions": None}
            | {name: self._constants.get(s) for name, s in fields.items() if name not in of_row},
            row=_record([*null, *full]),
            nulls=(None,) * len(null),
            per_row=tuple(full.items()),
            per_request=tuple((name, s) for name, s in fields.items() if s in _PER_REQUEST),
            outputs=tuple(
                (source, _VALUES[self._outputs[source].kind])
                for source in {source for source in of_row.values() if source in given}
            ),
        )

    def _problems(self) -> list[str]:
        known = {*self._outputs, *self._constants, *_PER_REQUEST, _PER_ROW}
        problems = [
            f"reply.{name}: there is no {source!r}, only {', '.join(sorted(known))}"
            for name, source in self.fields.items()
            if source not in known
        ]
        if len(set(self.class_names)) < len(self.class_names):
            problems.append(f"classes: two are spelled alike in {', '.join(self.class_names)}")
        return problems


def class_text(label: Any) -> str:
    """Spell a class's label as the name of a JSON field.

    Examples
    --------
    >>> [class_text(label) for label in ("high", 1, np.int64(1), True, 0.5)]
    ['high', '1', '1', 'true', '0.5']
    """
    plain = label.item() if isinstance(label, np.generic) else label
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return str(plain)


def _every_field(task: Task, constants: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a reply when an app asks for none: everything there is."""
    outputs = [output.name for output in task.outputs]
    further = [source for source in constants if source not in _CONSTANTS]
    known = [source for source in _CONSTANTS if source in constants]
    usual = (_PER_ROW, "timestamp", "processing_time_ms")
    return {name: name for name in [*outputs, *known, *further, *usual]}


def to_json(value: Any) -> Any:
    """Turn what numpy holds into what JSON knows; msgspec calls it for what it does not know."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")


def _record(names: Sequence[str]) -> Callable[..., Any]:
    """Return what makes a JSON object with these fields of as many values.

    A struct takes a third of a dict's time; it cannot have a field of every name.
    """
    if any(_UNSPEAKABLE.search(name) for name in names):
        return lambda *values: dict(zip(names, values, strict=True))
    fields = [f"field_{position}" for position in range(len(names))]
    renamed = dict(zip(fields, names, strict=True))
    return msgspec.defstruct("Record", fields, rename=renamed, gc=False)


def _as_they_are(predictions: Predictions, name: str, _: _ByClass) -> list[Any]:
    return predictions.plain(name)


def instant_texts(array: npt.NDArray[Any]) -> list[str | None]:
    """Spell days and instants as JSON holds them; None where there is none.

    Examples
    --------
    >>> instant_texts(np.array(["2024-01-15", "NaT"], dtype="datetime64[D]"))
    ['2024-01-15', None]
    >>> instant_texts(np.array(["2024-01-15T10:30:00"], dtype="datetime64[us]"))
    ['2024-01-15T10:30:00Z']
    """
    texts = np.datetime_as_string(array, unit="auto" if array.dtype == "datetime64[D]" else "s")
    zone = "" if array.dtype == "datetime64[D]" else "Z"
    return [None if text == "NaT" else f"{text}{zone}" for text in texts.tolist()]


def _instants(predictions: Predictions, name: str, _: _ByClass) -> list[Any]:
    return instant_texts(predictions.outputs[name])


def _by_class(predictions: Predictions, name: str, by_class: _ByClass) -> list[Any]:
    """Make an object of each row; where rows are not at hand, by column, as there are fewer."""
    if predictions.is_plain(name):
        return list(starmap(by_class, predictions.plain(name)))
    return list(map(by_class, *predictions.outputs[name].T.tolist()))


_UNSPEAKABLE: Final = re.compile(r'["\\\x00-\x1f]')
"""What a struct's field cannot be named with."""

_OF_REQUEST: Final[dict[str, Callable[[Told], Any]]] = {
    "timestamp": itemgetter(0),
    "processing_time_ms": lambda told: round(told[1], 3),
    "mlflow_logged": itemgetter(2),
}

_VALUES: Final[dict[str, _Values]] = {
    "label": _as_they_are,
    "number": _as_they_are,
    "boolean": _as_they_are,
    "texts": _as_they_are,
    "time": _instants,
    "by_class": _by_class,
}
