"""The fields of a request that is no prediction: one JSON object, read whole or refused whole.

By the rules that predictions have (:mod:`greenroom.payloads.refusal`): nothing is guessed, nothing
is passed over, and every bad field is named, without its value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from greenroom.errors import FieldProblem, RequestInvalid, RequestMalformed
from greenroom.payloads.refusal import MAX_LISTED, field_problems, parse_body, sentence
from greenroom.schema import Schema

__all__ = ["read_fields"]


def read_fields(
    body: bytes, schema: Schema, checks: Mapping[str, Callable[[Any], str]] | None = None
) -> dict[str, Any]:
    """Return the fields of a body by their request names; one that was left out is None.

    Parameters
    ----------
    body : bytes
        JSON in UTF-8.
    schema : Schema
        The fields, a column each; one that may be left out is nullable.
    checks : mapping of str to callable, optional
        What else a field has to be: its value -> what is wrong with it, or an empty text. Asked
        where the value is of the right kind.

    Raises
    ------
    RequestMalformed
        When the body is not one JSON object.
    RequestInvalid
        Naming every bad field.

    Examples
    --------
    >>> from greenroom.schema import Column
    >>> read_fields(b'{"version": "4"}', Schema((Column("version", "string"),)))
    {'version': '4'}
    """
    document = parse_body(body, "send one JSON object")
    if not isinstance(document, dict):
        raise RequestMalformed("the body is not a JSON object", advice="send one object")
    columns = {column.request_name: column for column in schema}
    found = [FieldProblem(0, *problem) for problem in field_problems(document, columns)]
    bad = {problem.field for problem in found}
    for name, check in (checks or {}).items():
        if name in document and name not in bad and (text := check(document[name])):
            found.append(FieldProblem(0, name, text))
    if found:
        raise RequestInvalid(
            sentence(found, single=True),
            found[:MAX_LISTED],
            advice="/docs shows every field, with its type and range",
        )
    return {name: document.get(name) for name in columns}
