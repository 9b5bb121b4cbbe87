"""Derivation: rows that are made of what a file holds, by a function of the app's.

Where a file does not hold a model's rows as they are (its dates are written another way, days are
to be summed up, a target follows from other columns), the app's ``rows`` makes them, and its
``context`` makes what ``expand`` is given beside a request. Here both are called, and whatever they
raise becomes an error that names the dataset. Checking what they made is
:mod:`greenroom.training.dataset`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from greenroom.data.fingerprint import content_hash
from greenroom.errors import DataError, GreenroomError
from greenroom.schema import Column, Columns, Kind

_KINDS: Final[Mapping[str, Kind]] = {
    "M": "datetime",
    "U": "string",
    "b": "number",
    "i": "number",
    "u": "number",
    "f": "number",
}
"""By what numpy calls the kind of a dtype."""

_ADVICE: Final = "correct the data, or the app's function"


def derive(
    function: Callable[[Columns], Mapping[str, Any]],
    table: Mapping[str, pa.Array | pa.ChunkedArray],
    source: str,
) -> dict[str, Any]:
    """Call an app's function on a table.

    Parameters
    ----------
    function : callable
        ``table -> columns``. It is given every column as an object array, shape (n_rows,): what a
        CSV file holds as ``str``, None where nothing stands.
    table : mapping of str to pyarrow Array
    source : str
        What an error calls the data.

    Raises
    ------
    DataError
        When the function raises. A ValueError's message is passed on, it is the app's own word
        about the data; of others only the kind is told, since their text may hold values.

    Examples
    --------
    >>> double = lambda table: {"n": 2 * table["a"]}
    >>> derive(double, {"a": pa.array(["x"])}, "data.csv")["n"].tolist()
    ['xx']
    """
    try:
        made = function({name: _objects(values) for name, values in table.items()})
    except GreenroomError:
        raise
    except KeyError as error:
        there = ", ".join(table) or "none"
        raise DataError(
            f"dataset {source} has no column {error.args[0]!r} (there are: {there})",
            advice="name its columns as the app expects them",
        ) from error
    except ValueError as error:
        raise DataError(f"dataset {source}: {error}", advice=_ADVICE) from error
    except Exception as error:
        name = getattr(function, "__name__", "the app's function")
        raise DataError(
            f"dataset {source}: {name} fails on it: {type(error).__name__}", advice=_ADVICE
        ) from error
    if not isinstance(made, Mapping):
        raise DataError(
            f"dataset {source}: a function made {type(made).__name__} of it, no columns"
        )
    return dict(made)


def as_context(made: Mapping[str, Any], source: str) -> Columns:
    """Return columns as :mod:`greenroom.schema` holds them, going by what their values are.

    Raises
    ------
    DataError
        When one is not one-dimensional, or holds what is no number, text or instant.
    """
    columns: Columns = {}
    for name, values in made.items():
        array = np.asarray(values)
        kind = _kind(array)
        if kind is None or array.ndim != 1:
            raise DataError(
                f"dataset {source}: column {name!r} of the context is no list of numbers, texts or "
                "instants"
            )
        dtypes = {"number": "float64", "datetime": "datetime64[us]"}
        columns[str(name)] = array.astype(dtypes.get(kind, "object"))
    return columns


def context_hash(context: Columns) -> str:
    """Return the SHA-256 of a context's content."""
    schema = [Column(name, _kind(values) or "string") for name, values in context.items()]
    return content_hash(context, schema)


def _kind(values: npt.NDArray[Any]) -> Kind | None:
    if values.dtype.kind == "O":
        plain = all(value is None or isinstance(value, str) for value in values.tolist())
        return "string" if plain else None
    return _KINDS.get(values.dtype.kind)


def _objects(values: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values.to_pylist()
    return array
