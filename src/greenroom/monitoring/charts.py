"""Charts: what findings look like, as matplotlib figures, and those as SVG.

Reference and current distribution of a column side by side, drift and performance over the runs,
calibration. Drawn in the style of the training's figures (:mod:`greenroom.training.plots`); which
of them are shown, and where, is :mod:`greenroom.monitoring.report_figures`' business. Importing
this takes matplotlib, so it is imported when something is drawn.
"""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from greenroom.findings import Calibration, Distribution
from greenroom.monitoring.conclusions import figure as in_figures
from greenroom.training.plots import BLUE, GREY, ORANGE, PALETTE, style

__all__ = ["calibration", "distribution", "over_time", "svg"]

NOT_IN_REFERENCE: Final = "not in the reference"
OTHERS: Final = "others"
MOST_LABELS: Final = 12
MOST_TICKS: Final = 5
_LONGEST_LABEL: Final = 22
_SIZE: Final = (3.8, 2.3)
_WIDE: Final = (9.0, 3.2)
_SVG: Final[dict[Any, Any]] = {"svg.fonttype": "none", "svg.hashsalt": "greenroom"}

Series = Sequence[tuple[str, float]]
"""Values over time: instants in ISO 8601, UTC, each with a number."""


def svg(figure: Figure) -> bytes:
    """Write a figure as SVG, the same bytes for the same figure; its texts stay texts."""
    file = io.BytesIO()
    with style(), mpl.rc_context(_SVG):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def distribution(found: Distribution, *, drifted: bool, kind: str = "number") -> Figure:
    """Draw reference and current shares of a column's bins, or categories, side by side.

    Bins stand in slots of equal width, whatever the bins' own: those of a column with a long tail
    differ by orders of magnitude. A category that the reference does not have is not named.

    Parameters
    ----------
    found : Distribution
    drifted : bool
        Whether the column has moved; the current shares have another colour then.
    kind : str
        The column's; edges of ``date`` and ``datetime`` are seconds since 1970.
    """
    with style():
        colour = ORANGE if drifted else BLUE
        if found.labels:
            return _categories(found, colour)
        figure, axes = _figure(_SIZE)
        places = np.arange(len(found.reference))
        axes.bar(places - 0.2, found.reference, width=0.38, color=GREY, label="reference")
        axes.bar(places + 0.2, found.current, width=0.38, color=colour, label="current")
        axes.set_xlim(-0.6, len(places) - 0.4)
        _edges(axes, found.edges, kind)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(visible=False, axis="x")
        axes.legend(loc="lower right", fontsize=8, ncols=2, borderaxespad=0, bbox_to_anchor=(1, 1))
        return figure


def over_time(
    series: Mapping[str, Series],
    title: str,
    *,
    bands: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """Draw values over the runs of a version.

    Parameters
    ----------
    series : mapping of str to Series
        By name, at most eight.
    title : str
    bands : mapping of str to sequence of (low, high)
        Intervals of a series, as long as it is.
    levels : mapping of str to float
        Lines to hold the values against, by what they are called.
    """
    with style():
        figure, axes = _figure(_WIDE)
        for colour, (name, values) in zip(PALETTE, series.items(), strict=False):
            times = np.array([at.removesuffix("Z") for at, _ in values], dtype="datetime64[ms]")
            axes.plot(times, [y for _, y in values], color=colour, marker="o", ms=3.5, label=name)
            if bands and name in bands:
                low, high = zip(*bands[name], strict=True)
                axes.fill_between(times, low, high, color=colour, alpha=0.15, linewidth=0)
        for name, level in (levels or {}).items():
            axes.axhline(level, color=GREY, linestyle=(0, (4, 3)), linewidth=1.2, label=name)
        locator = AutoDateLocator(maxticks=8)  # type: ignore[no-untyped-call]  # matplotlib
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]  # matplotlib
        axes.set_title(title)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8.5)
        return figure


def calibration(found: Calibration) -> Figure:
    """Draw what happened against what was predicted, in the hold-out and now, with 95 % bars."""
    curves = (("hold-out", found.reference, GREY), ("current", found.current, BLUE))
    with style():
        figure, axes = _figure((3.8, 3.2))
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=(0, (4, 3)), linewidth=1.2, label="perfect")
        top = 0.0
        for name, curve, colour in curves:
            if curve is None or not curve.n_rows:
                continue
            said, happened = np.asarray(curve.predicted), np.asarray(curve.observed)
            errors = 1.96 * np.sqrt(happened * (1 - happened) / np.asarray(curve.n_rows))
            axes.errorbar(
                said, happened, errors, color=colour, marker="o", ms=4, elinewidth=1.2, label=name
            )
            top = max(top, float((happened + errors).max()), float(said.max()))
        top = min(1.0, 1.1 * top) or 1.0
        axes.set(xlim=(0, top), ylim=(0, top))
        axes.set(xlabel="Predicted probability", ylabel="Share of events")
        axes.legend(loc="upper left", fontsize=8.5)
        return figure


def _figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    return figure, axes


def _categories(found: Distribution, colour: str) -> Figure:
    """Draw shares of categories below each other: their names need room to the side."""
    labels, reference, current = _named(found)
    figure, axes = _figure((_SIZE[0], max(_SIZE[1], 0.7 + 0.27 * len(labels))))
    places = np.arange(len(labels))
    axes.barh(places - 0.2, reference, height=0.38, color=GREY, label="reference")
    axes.barh(places + 0.2, current, height=0.38, color=colour, label="current")
    axes.set_yticks(places, [_short(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(visible=False, axis="y")
    axes.legend(loc="lower right", fontsize=8, ncols=2, borderaxespad=0, bbox_to_anchor=(1, 1))
    return figure


def _edges(axes: Axes, edges: Sequence[float], kind: str) -> None:
    """Write the bounds of the bins below them, as many as there is room for."""
    step = max(1, -(-(len(edges) - 1) // MOST_TICKS))
    shown = range(0, len(edges), step)
    axes.set_xticks([place - 0.5 for place in shown], [_edge(edges[at], kind) for at in shown])


def _edge(value: float, kind: str) -> str:
    if kind in {"date", "datetime"}:
        at = dt.datetime.fromtimestamp(value, dt.UTC)
        return f"{at:%Y-%m-%d}"
    return in_figures(value)


def _named(found: Distribution) -> tuple[list[str], list[float], list[float]]:
    """Return the labels that may be shown, and of many the most frequent, the rest together."""
    known = [place for place, share in enumerate(found.reference) if share > 0]
    if len(known) > MOST_LABELS:
        known.sort(key=lambda place: -max(found.reference[place], found.current[place]))
    first, rest = known[:MOST_LABELS], known[MOST_LABELS:]
    labels = [found.labels[place] for place in first]
    reference = [found.reference[place] for place in first]
    current = [found.current[place] for place in first]
    if rest:
        labels.append(f"{OTHERS} ({len(rest)})")
        reference.append(sum(found.reference[place] for place in rest))
        current.append(sum(found.current[place] for place in rest))
    unseen = sum(y for x, y in zip(found.reference, found.current, strict=True) if x <= 0)
    if unseen > 0:
        labels.append(NOT_IN_REFERENCE)
        reference.append(0.0)
        current.append(unseen)
    return labels, reference, current


def _short(label: str) -> str:
    # `$` would begin a formula.
    plain = label.replace("$", r"\$")
    return plain if len(label) <= _LONGEST_LABEL else f"{plain[: _LONGEST_LABEL - 1]}…"
