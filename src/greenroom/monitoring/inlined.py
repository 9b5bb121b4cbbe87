"""Inlined: a figure's SVG as a part of a page.

Several stand in one page, so what they name is made their own; colours become the page's, so that
figures are dark where the page is; what only a file needs is left out. What is in a figure, and how
it is drawn, is :mod:`greenroom.monitoring.charts`' business.
"""

from __future__ import annotations

import html
import re
from typing import Final

from greenroom.training.plots import BLUE, GREY, INK, ORANGE

__all__ = ["inline"]

COLOURS: Final = {
    INK: "ink",
    BLUE: "current",
    ORANGE: "moved",
    GREY: "reference",
    "#e8ebee": "grid",
    "#c5cbd1": "edge",
    "#5b6670": "soft",
}
"""What colours of the figures' style are called in the page's."""

_AROUND: Final = re.compile(
    r"^.*?(?=<svg)|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", re.S
)
_OPENING: Final = re.compile(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>')
_ID: Final = re.compile(r' id="([^"]+)"')
_REFERENCE: Final = re.compile(r'(url\(#|href="#)([^)"]+)')
_EMPTY: Final = re.compile(r"<g>\s*</g>|<g/>")
_UNTURNED: Final = re.compile(r' transform="rotate\(-0 [^"]*"')
_FONT: Final = re.compile(r"font-family: 'DejaVu Sans';? ?")
_SPACE: Final = re.compile(r"\s*\n\s*")
_PLACES: Final = re.compile(r' (?:d|x|y|transform|points)="[^"]*"')
_DIGITS: Final = re.compile(r"(\d+\.\d\d)\d+")


def inline(svg: bytes, description: str, number: int) -> str:
    """Return an SVG file as an element of a page.

    Parameters
    ----------
    svg : bytes
        As matplotlib writes it.
    description : str
        What a reader is told who does not see it.
    number : int
        Another one for each figure of the page.
    """
    text = _AROUND.sub("", svg.decode())
    used = {found[2] for found in _REFERENCE.finditer(text)}
    text = _ID.sub(lambda one: f' id="f{number}-{one[1]}"' if one[1] in used else "", text)
    text = _REFERENCE.sub(lambda one: f"{one[1]}f{number}-{one[2]}", text)
    label = html.escape(description, quote=True)
    text = _OPENING.sub(
        lambda one: f'<svg viewBox="{one[1]}" role="img" aria-label="{label}">', text, count=1
    )
    for colour, name in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    text = _FONT.sub("", _UNTURNED.sub("", text))
    text = _PLACES.sub(lambda one: _DIGITS.sub(r"\1", one[0]), _SPACE.sub(" ", text))
    while (smaller := _EMPTY.sub("", text)) != text:
        text = smaller
    return text.strip()
