"""What each protocol's requests and replies look like, as bytes. Pure.

A protocol turns rows into the body of one request, and the body of a reply into one number a row:
the probability of the second class, or the predicted class where the server gives no more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Rows = Sequence[Sequence[float]]
Names = Sequence[tuple[str, str]]
"""For each column, in order: its name in requests to Greenroom, and the model's own."""


@dataclass(frozen=True)
class Protocol:
    """How one kind of server is spoken to.

    Parameters
    ----------
    single_path, many_path : str
        Where one row is sent, and where many; ``{model}`` is the model's name.
    body : callable
        ``(rows, names, single) -> bytes``, without a line break in them.
    values : callable
        ``(reply) -> list of float``, one a row.
    answers : {"probability", "class", "nothing"}
        What the values are; nothing is checked of a server that predicts nothing.
    """

    single_path: str
    many_path: str
    body: Callable[[Rows, Names, bool], bytes]
    values: Callable[[bytes], list[float]]
    answers: Literal["probability", "class", "nothing"] = "probability"


def objects_body(rows: Rows, names: Names, single: bool) -> bytes:
    """Return rows as JSON objects: one alone, or a list of them.

    >>> objects_body([[1.0, 2.5]], [("a", "a"), ("b_c", "b c")], True)
    b'{"a":1.0,"b_c":2.5}'
    """
    fields = [request_name for request_name, _ in names]
    many = [dict(zip(fields, row, strict=True)) for row in rows]
    return _json(many[0] if single else many)


def split_body(rows: Rows, names: Names, _single: bool) -> bytes:
    """Return rows as MLflow's ``dataframe_split``, the smallest and fastest of its forms.

    >>> split_body([[1.0]], [("b_c", "b c")], True)
    b'{"dataframe_split":{"columns":["b c"],"data":[[1.0]]}}'
    """
    columns = [name for _, name in names]
    return _json({"dataframe_split": {"columns": columns, "data": [list(row) for row in rows]}})


def tensor_body(rows: Rows, names: Names, _single: bool) -> bytes:
    """Return rows as one tensor of the Open Inference Protocol, probabilities asked for.

    >>> tensor_body([[1.0, 2.0]], [("a", "a"), ("b", "b")], True)[:57]
    b'{"inputs":[{"name":"rows","shape":[1,2],"datatype":"FP64"'
    """
    tensor = {
        "name": "rows",
        "shape": [len(rows), len(names)],
        "datatype": "FP64",
        "data": [value for row in rows for value in row],
    }
    return _json({"inputs": [tensor], "outputs": [{"name": "predict_proba"}]})


def object_values(reply: bytes) -> list[float]:
    """Read the probabilities of Greenroom's replies, and of the app written by hand.

    >>> object_values(b'{"predictions": [{"probability": 0.25}, {"probability": 0.5}]}')
    [0.25, 0.5]
    """
    found = json.loads(reply)
    if isinstance(found, dict):
        found = found.get("predictions", [found])
    return [row["probability"] for row in found]


def label_values(reply: bytes) -> list[float]:
    """Read the classes of MLflow's replies.

    >>> label_values(b'{"predictions": [0, 1]}')
    [0.0, 1.0]
    """
    return [float(value) for value in json.loads(reply)["predictions"]]


def tensor_values(reply: bytes) -> list[float]:
    """Read the second class's probabilities from a tensor of shape (n_rows, 2).

    >>> tensor_values(b'{"outputs": [{"shape": [2, 2], "data": [0.75, 0.25, 0.5, 0.5]}]}')
    [0.25, 0.5]
    """
    output = json.loads(reply)["outputs"][0]
    n_rows, n_classes = output["shape"]
    if n_classes != 2:
        raise ValueError(f"{n_classes} classes: the benchmark's models have two")
    data: list[float] = output["data"]
    if len(data) != 2 * n_rows:
        raise ValueError(f"{len(data)} values for {n_rows} rows")
    return data[1::2]


def no_values(_reply: bytes) -> list[float]:
    """Read nothing: an empty app predicts nothing."""
    return []


GREENROOM = Protocol("/predict", "/predict", objects_body, object_values)
HAND_WRITTEN = Protocol("/predict", "/predict/batch", objects_body, object_values)
MLFLOW = Protocol("/invocations", "/invocations", split_body, label_values, "class")
MLSERVER = Protocol(
    "/v2/models/{model}/infer", "/v2/models/{model}/infer", tensor_body, tensor_values
)
EMPTY = Protocol("/", "/", objects_body, no_values, "nothing")
PROTOCOLS = {
    "greenroom": GREENROOM,
    "fastapi": HAND_WRITTEN,
    "mlflow": MLFLOW,
    "mlserver": MLSERVER,
    "empty": EMPTY,
}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
