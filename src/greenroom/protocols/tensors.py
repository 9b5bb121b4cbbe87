"""Tensors of the Open Inference Protocol: datatypes, and the two forms in which values travel.

As JSON a tensor is a list, flat or nested; as binary it is its values one after the other, little
end first, and text is a length of four bytes before each element. Both are read into the arrays
that :mod:`greenroom.schema` describes: float64 with NaN for a missing value, or objects. What a
column makes of its tensor is :mod:`greenroom.protocols.tensor_rows`' business.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from greenroom.errors import FieldProblem, RequestInvalid
from greenroom.payloads.refusal import MAX_LISTED, readable_name

__all__ = [
    "NUMBERS",
    "BadTensor",
    "Tensor",
    "datatype_of",
    "invalid_tensors",
    "read_binary",
    "read_json",
    "to_binary",
]

NUMBERS: Final[dict[str, np.dtype[Any]]] = {
    "FP64": np.dtype("<f8"),
    "FP32": np.dtype("<f4"),
    "FP16": np.dtype("<f2"),
    "INT64": np.dtype("<i8"),
    "INT32": np.dtype("<i4"),
    "INT16": np.dtype("<i2"),
    "INT8": np.dtype("<i1"),
    "UINT64": np.dtype("<u8"),
    "UINT32": np.dtype("<u4"),
    "UINT16": np.dtype("<u2"),
    "UINT8": np.dtype("<u1"),
}
"""The protocol's numbers and how they lie in memory. Beside them there are BOOL and BYTES."""

_LENGTH: Final = struct.Struct("<I")
_OF_KIND: Final = {"b": "BOOL", "O": "BYTES", "U": "BYTES", "S": "BYTES"}


class BadTensor(ValueError):
    """A tensor is not what it says it is; the text goes on after the tensor's name."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An input as it was sent.

    Parameters
    ----------
    name : str
    datatype : str
        One of the protocol's names.
    values : ndarray
        float64 with NaN for what is missing; for BYTES objects, ``str`` or None.
    """

    name: str
    datatype: str
    values: npt.NDArray[Any]


def read_binary(datatype: str, shape: Sequence[int], raw: memoryview) -> npt.NDArray[Any]:
    """Read a tensor from its bytes, which are copied and not referred to.

    Parameters
    ----------
    datatype : str
    shape : sequence of int
        One dimension or two.
    raw : memoryview of bytes

    Raises
    ------
    BadTensor
        When there are more or fewer bytes than the shape wants, a BOOL that is neither 0 nor 1,
        or text that is not UTF-8.

    Examples
    --------
    >>> read_binary("INT32", [2], memoryview(bytes([1, 0, 0, 0, 2, 0, 0, 0])))
    array([1., 2.])
    >>> read_binary("BYTES", [1], memoryview(bytes([3, 0, 0, 0]) + b"abc"))
    array(['abc'], dtype=object)
    """
    count = _count(shape)
    if datatype == "BYTES":
        return _texts(_elements(raw, count)).reshape(shape)
    dtype = np.dtype(np.uint8) if datatype == "BOOL" else _number(datatype)
    if raw.nbytes != count * dtype.itemsize:
        raise BadTensor(f"has {raw.nbytes} bytes, and its shape wants {count * dtype.itemsize}")
    values = np.frombuffer(raw, dtype)
    if datatype == "BOOL" and (values > 1).any():
        raise BadTensor("holds a BOOL that is neither 0 nor 1")
    # A copy, of float64 too: the bytes lie at any address, and an estimator may write into it.
    return values.astype(np.float64).reshape(shape)


def read_json(datatype: str, shape: Sequence[int], text: bytes) -> npt.NDArray[Any]:
    """Read a tensor from its JSON, a list that is flat or nested as the shape is.

    Raises
    ------
    BadTensor
        When there are more or fewer values than the shape wants, or others than the datatype has.

    Examples
    --------
    >>> read_json("FP64", [2, 1], b"[[1.5], [null]]")
    array([[1.5],
           [nan]])
    """
    if datatype not in {"BOOL", "BYTES"}:
        _number(datatype)
    kind = datatype if datatype in _DECODE else "numbers"
    flat = _flat(kind, shape, text)
    if len(flat) != _count(shape):
        raise BadTensor(f"has {len(flat)} values, and its shape wants {_count(shape)}")
    if kind == "BYTES":
        return _texts(flat).reshape(shape)
    values = np.array(flat, dtype=np.float64)
    if kind == "numbers" and datatype != "FP64":
        values = _as_sent(values, NUMBERS[datatype])
    return values.reshape(shape)


def to_binary(values: npt.NDArray[Any]) -> bytes:
    """Write an output: of the datatype that :func:`datatype_of` says, row by row.

    Examples
    --------
    >>> to_binary(np.array(["a", "bc"], dtype=object)).hex(" ")
    '01 00 00 00 61 02 00 00 00 62 63'
    """
    datatype = datatype_of(values)
    if datatype == "BYTES":
        texts = [str(value).encode() for value in values.ravel().tolist()]
        return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))
    dtype = np.dtype(np.uint8) if datatype == "BOOL" else NUMBERS[datatype]
    return values.astype(dtype).tobytes()


def datatype_of(values: npt.NDArray[Any]) -> str:
    """Return the protocol's name for what an array holds.

    Examples
    --------
    >>> [datatype_of(np.array(one)) for one in ([True], [1], [0.5], ["a"])]
    ['BOOL', 'INT64', 'FP64', 'BYTES']
    """
    if values.dtype.kind in _OF_KIND:
        return _OF_KIND[values.dtype.kind]
    for name, dtype in NUMBERS.items():
        if dtype == values.dtype.newbyteorder("<"):
            return name
    return "FP64"


def invalid_tensors(problems: Mapping[str, str]) -> RequestInvalid:
    """Make the error that names every bad tensor.

    Parameters
    ----------
    problems : mapping of str to str
        What is wrong, by name; it goes on after the name, as in "is missing".

    Examples
    --------
    >>> invalid_tensors({"age": "is missing", "b": "holds no number"}).message
    'age is missing; b holds no number'
    """
    found = [FieldProblem(0, readable_name(name), text) for name, text in problems.items()]
    said = [f"{problem.field} {problem.problem}".strip() for problem in found[:MAX_LISTED]]
    if len(found) > MAX_LISTED:
        said.append(f"and {len(found) - MAX_LISTED} more")
    advice = "the model's metadata says which tensors it takes"
    return RequestInvalid("; ".join(said), found[:MAX_LISTED], advice=advice)


def _number(datatype: str) -> np.dtype[Any]:
    if datatype not in NUMBERS:
        known = ", ".join([*NUMBERS, "BOOL", "BYTES"])
        raise BadTensor(f"has a datatype that is none of {known}")
    return NUMBERS[datatype]


def _count(shape: Sequence[int]) -> int:
    """Return how many values a shape wants; nothing is allocated for it."""
    return math.prod(shape)


def _elements(raw: memoryview, count: int) -> list[str]:
    """Read the elements of a BYTES tensor."""
    if count * _LENGTH.size > raw.nbytes:
        raise BadTensor(f"has {raw.nbytes} bytes, and its shape wants {count} elements")
    found: list[str] = []
    place = 0
    for row in range(count):
        if place + _LENGTH.size > raw.nbytes:
            raise BadTensor(f"ends before the length of element {row}")
        (length,) = _LENGTH.unpack_from(raw, place)
        place += _LENGTH.size
        if length > raw.nbytes - place:
            raise BadTensor(f"ends before element {row} does")
        try:
            found.append(str(raw[place : place + length], "utf-8"))
        except UnicodeDecodeError:
            raise BadTensor(f"is not UTF-8 in element {row}") from None
        place += length
    if place != raw.nbytes:
        raise BadTensor(f"has {raw.nbytes - place} bytes after its last element")
    return found


def _texts(values: Sequence[Any]) -> npt.NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


_FLAT: Final[dict[str, Any]] = {
    "numbers": list[float | None],
    "BOOL": list[bool | None],
    "BYTES": list[str | None],
}
_DECODE: Final[dict[str, Callable[[bytes], list[Any]]]] = {
    kind: msgspec.json.Decoder(type_).decode for kind, type_ in _FLAT.items()
}
_DECODE_NESTED: Final[dict[str, Callable[[bytes], list[list[Any]]]]] = {
    kind: msgspec.json.Decoder(list[type_]).decode  # type: ignore[valid-type]  # built at run time
    for kind, type_ in _FLAT.items()
}
_WANTED: Final = {"numbers": "numbers", "BOOL": "true and false", "BYTES": "strings"}


def _flat(kind: str, shape: Sequence[int], text: bytes) -> list[Any]:
    nested = text[1:].lstrip(b" \t\r\n").startswith(b"[")
    try:
        if not nested:
            return _DECODE[kind](text)
        rows = _DECODE_NESTED[kind](text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # A number that no double holds is one of these: nothing here takes an infinity.
        raise BadTensor(f"holds other values than {_WANTED[kind]}, all of them finite") from None
    if len(shape) != 2 or any(len(row) != shape[1] for row in rows):
        raise BadTensor("is not nested as its shape is")
    return [value for row in rows for value in row]


def _as_sent(values: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> npt.NDArray[np.float64]:
    """Round to what the datatype can hold, so that JSON and binary mean the same."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(dtype).astype(np.float64)
    limits = np.iinfo(dtype)
    present = values[~np.isnan(values)]
    if (np.floor(present) != present).any():
        raise BadTensor("holds a number that is not whole, and its datatype is one of integers")
    if ((present < float(limits.min)) | (present > float(limits.max))).any():
        raise BadTensor("holds a number that its datatype cannot")
    return values
