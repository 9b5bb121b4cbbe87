"""What an expression of Prometheus' language asks for: metrics, and the labels of each."""

from __future__ import annotations

import re
from typing import NamedTuple

_STRING = r'"(?:[^"\\]|\\.)*"'
_MATCHER = re.compile(rf"(\w+)\s*(?:=~|!~|!=|=)\s*({_STRING})")
_SELECTOR = re.compile(rf"([A-Za-z_:][\w:]*)?\s*\{{((?:{_STRING}|[^\"{{}}])*)\}}")
_LABELS = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_NAME = re.compile(r"(?<![\w:$])([A-Za-z_:][\w:]*)(?![\w:])(?!\s*\()")
_WORDS = {"and", "or", "unless", "offset", "bool", "by", "on", "without", "ignoring"}


class Asked(NamedTuple):
    """One selector: a metric's name, or the expression that its name fits, and its labels."""

    name: str
    labels: frozenset[str]
    is_pattern: bool = False


def asked(expression: str) -> set[Asked]:
    """Return what an expression selects.

    Examples
    --------
    >>> sorted(asked('sum by (a) (rate(m_total{x="1"}[5m])) / on (job) up'))[0]
    Asked(name='m_total', labels=frozenset({'x'}), is_pattern=False)
    """
    found = set()
    for name, inside in _SELECTOR.findall(expression):
        matchers = dict(_MATCHER.findall(inside))
        pattern = matchers.pop("__name__", "").strip('"')
        found.add(Asked(name or pattern, frozenset(matchers), not name))
    rest = _SELECTOR.sub(" ", expression)
    rest = re.sub(_STRING, " ", rest)
    rest = re.sub(r"\[[^]]*\]", " ", _LABELS.sub(" ", rest))
    rest = re.sub(r"\boffset\s+\w+", " ", rest)
    names = {name for name in _NAME.findall(rest) if name not in _WORDS}
    return found | {Asked(name, frozenset()) for name in names}
