"""Plots: one function for each kind of figure, arrays in and a matplotlib figure out.

Built on ``matplotlib.figure.Figure``, without pyplot and its state, so that nothing opens a window
or is kept. Call them within :func:`style`. Which of them a task shows is
:mod:`greenroom.training.figures`' business, and the figures in them
:mod:`greenroom.evaluation.scores`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from greenroom.evaluation import scores
from greenroom.evaluation.intervals import Interval, delong
from greenroom.evaluation.predictions import Predictions

Array = npt.NDArray[Any]

BLUE: Final = "#2a6f97"
ORANGE: Final = "#e07a1f"
GREY: Final = "#8a9199"
INK: Final = "#22303c"
PALETTE: Final = (BLUE, ORANGE, "#3a8f5c", "#a23b72", "#6c5fa7", "#c9a227", "#4aa3a2", "#b5523b")

MOST_CLASSES_DRAWN: Final = len(PALETTE)
MOST_FEATURES_SHOWN: Final = 20
MOST_POINTS_DRAWN: Final = 3_000
FORECAST_ROWS_SHOWN: Final = 400

# Without the palest blues, in which a cell of one row could not be seen.
_DENSITY: Final = ListedColormap(mpl.colormaps["Blues"](np.linspace(0.25, 1, 256)))

_STYLE: Final[dict[Any, Any]] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#c5cbd1",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "grid.color": "#e8ebee",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "text.color": INK,
    "xtick.color": "#5b6670",
    "xtick.major.size": 0,
    "ytick.color": "#5b6670",
    "ytick.major.size": 0,
}


def style() -> AbstractContextManager[None]:
    """Return a context in which figures look as Greenroom's do; outside of it nothing changes."""
    return mpl.rc_context(_STYLE)


def _figure(
    title: str, x_label: str, y_label: str, *, size: tuple[float, float] = (6.4, 4.8)
) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    return figure, axes


def confusion_matrix(
    labels: tuple[Any, ...], true: npt.NDArray[np.intp], said: npt.NDArray[np.intp]
) -> Figure:
    """Draw counts; the colour is the share of each true class, so that rare ones show."""
    n = len(labels)
    matrix = scores.confusion_matrix(true, said, n)
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    side = min(11.0, 3.6 + 0.7 * n)
    figure, axes = _figure("Confusion matrix", "Predicted", "Actual", size=(side + 0.8, side))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    names = [str(label) for label in labels]
    axes.set_xticks(range(n), names, rotation=45 if max(map(len, names)) > 6 else 0)
    axes.set_yticks(range(n), names)
    axes.spines[:].set_visible(False)
    if n <= 2 * MOST_CLASSES_DRAWN:
        for (row, column), count in np.ndenumerate(matrix):
            share = shares[row, column]
            text = f"{count:,}\n{share:.1%}" if n <= MOST_CLASSES_DRAWN else f"{count:,}"
            colour = "white" if share > 0.55 else INK
            axes.text(column, row, text, ha="center", va="center", color=colour)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(1.0))
    bar.set_label("Share of the actual class")
    bar.outline.set_visible(False)
    return figure


def roc_curve(curves: list[tuple[str, Array, Array]]) -> Figure:
    """Draw the ROC curve of each ``(name, positive, scores)``, with the area under it."""
    figure, axes = _figure("ROC curve", "False positive rate", "True positive rate")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=(0, (4, 3)), linewidth=1.2, label="chance")
    for colour, (name, positive, values) in zip(PALETTE, curves, strict=False):
        interval = delong(positive, values) if len(curves) == 1 else None
        text = _with_interval("AUC", scores.roc_auc(positive, values), interval)
        axes.plot(
            *scores.roc_curve(positive, values),
            color=colour,
            label=text if len(curves) == 1 else f"{name}: {text}",
        )
    _unit_square(axes)
    axes.legend(loc="lower right")
    return figure


def precision_recall_curve(curves: list[tuple[str, Array, Array]]) -> Figure:
    """Draw precision over recall for each ``(name, positive, scores)``."""
    figure, axes = _figure("Precision and recall", "Recall", "Precision")
    for colour, (name, positive, values) in zip(PALETTE, curves, strict=False):
        text = f"average precision {scores.average_precision(positive, values):.3f}"
        recalls, precisions = scores.precision_recall_curve(positive, values)
        precisions[0] = precisions[1]  # the curve begins at its first threshold, not in a corner
        axes.step(
            recalls,
            precisions,
            where="pre",
            color=colour,
            label=text if len(curves) == 1 else f"{name}: {text}",
        )
    if len(curves) == 1:
        share = float(curves[0][1].mean())
        axes.axhline(
            share,
            color=GREY,
            linestyle=(0, (4, 3)),
            linewidth=1.2,
            label=f"chance: the share of events, {share:.3f}",
        )
    _unit_square(axes)
    axes.legend(loc="best")
    return figure


def calibration_curve(positive: Array, probabilities: Array) -> Figure:
    """Draw what happened against what was predicted, over a histogram of the predictions."""
    figure = Figure(figsize=(6.4, 5.8), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    predicted, observed, n_rows = scores.calibration_curve(positive, probabilities)
    errors = 1.96 * np.sqrt(observed * (1 - observed) / n_rows)
    above.plot([0, 1], [0, 1], color=GREY, linestyle=(0, (4, 3)), linewidth=1.2, label="perfect")
    above.errorbar(
        predicted,
        observed,
        yerr=errors,
        color=BLUE,
        marker="o",
        markersize=5,
        elinewidth=1.2,
        label=f"{len(n_rows)} bins of equal size, 95 % error bars",
    )
    top = min(1.0, 1.15 * float(max((observed + errors).max(), predicted.max())))
    above.set(title="Calibration", ylabel="Share of events", xlim=(0, top), ylim=(0, top))
    above.legend(loc="upper left")
    below.hist(probabilities, bins=40, range=(0, 1 if top > 0.9 else top), color=BLUE, alpha=0.75)
    below.set(xlabel="Predicted probability", ylabel="Rows", yscale="log")
    return figure


def agreement(y: Array, said: Array) -> Figure:
    """Draw predictions against the truth."""
    figure, axes = _figure("Predicted and actual", "Actual", "Predicted", size=(6.2, 5.4))
    _cloud(figure, axes, y, said)
    _with_thousands(axes)
    ends = [min(y.min(), said.min()), max(y.max(), said.max())]
    axes.plot(ends, ends, color=ORANGE, linewidth=1.4, label="perfect")
    axes.legend(loc="upper left")
    return figure


def residuals(y: Array, said: Array) -> Figure:
    """Draw residuals against the predictions, with their distribution beside them."""
    figure = Figure(figsize=(8.2, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    residuals = y - said
    _cloud(figure, left, said, residuals)
    _with_thousands(left)
    left.axhline(0, color=ORANGE, linewidth=1.4)
    left.set(title="Residuals", xlabel="Predicted", ylabel="Actual minus predicted")
    right.hist(residuals, bins=60, orientation="horizontal", color=BLUE, alpha=0.75)
    right.axhline(0, color=ORANGE, linewidth=1.4)
    right.set_xlabel("Rows")
    right.xaxis.set_major_locator(MaxNLocator(3))
    right.set_title(
        f"median {np.median(residuals):,.5g}\nstd {residuals.std():,.5g}",
        fontsize=9,
        fontweight="normal",
    )
    return figure


def forecast(y: Array | None, p: Predictions) -> Figure:
    """Draw the last rows of a forecast with its interval, and the truth where it is known."""
    figure, axes = _figure("Forecast", "Held-out rows, in order", "Value", size=(9.0, 4.4))
    shown = slice(-FORECAST_ROWS_SHOWN, None)
    said = p.outputs["prediction"][shown]
    places = np.arange(len(p))[shown]
    lower, upper = p.outputs["lower"][shown], p.outputs["upper"][shown]
    axes.fill_between(places, lower, upper, color=BLUE, alpha=0.18, linewidth=0, label="interval")
    if y is not None:
        axes.plot(places, y[shown], color=INK, linewidth=1.3, label="actual")
    axes.plot(places, said, color=BLUE, linewidth=1.8, label="predicted")
    axes.legend(loc="upper left", ncols=3)
    axes.margins(x=0.01)
    return figure


def anomaly_scores(y: Array | None, p: Predictions) -> Figure:
    """Draw how scores are distributed, flagged or not, and where the true anomalies are."""
    figure, axes = _figure("Anomaly scores", "Score: higher is more unusual", "Rows")
    values, flagged = p.outputs["score"], np.asarray(p.outputs["prediction"], dtype=np.bool_)
    groups = [("not flagged", values[~flagged], BLUE), ("flagged", values[flagged], ORANGE)]
    if y is not None:
        groups += [("truly anomalous", values[y == 1], INK)]
    edges = np.histogram_bin_edges(values, bins=50).tolist()
    for name, members, colour in groups:
        outline = name == "truly anomalous"
        axes.hist(
            members,
            bins=edges,
            color=colour,
            alpha=1.0 if outline else 0.75,
            histtype="step" if outline else "stepfilled",
            linewidth=1.6 if outline else 0,
            label=f"{name}: {len(members):,}",
        )
    axes.set_yscale("log")
    axes.legend(loc="upper right")
    return figure


def feature_importance(importance: Mapping[str, float]) -> Figure:
    """Draw the most important features, most important on top."""
    shown = list(importance.items())[:MOST_FEATURES_SHOWN][::-1]
    figure, axes = _figure(
        "Feature importance",
        "Loss in the metric when shuffled",
        "",
        size=(7.2, 1.6 + 0.3 * len(shown)),
    )
    values = [value for _, value in shown]
    colours = [BLUE if value >= 0 else GREY for value in values]
    axes.barh([name for name, _ in shown], values, color=colours, height=0.66)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.grid(visible=False, axis="y")
    return figure


def _cloud(figure: Figure, axes: Axes, x: Array, values: Array) -> None:
    """Draw points; beyond a few thousand their density, which points would hide."""
    if len(x) <= MOST_POINTS_DRAWN:
        axes.scatter(x, values, s=12, color=BLUE, alpha=0.45, linewidths=0)
        return
    cells = axes.hexbin(x, values, gridsize=60, bins="log", cmap=_DENSITY, mincnt=1, linewidths=0.1)
    bar = figure.colorbar(cells, ax=axes, shrink=0.8)
    bar.set_label("Rows")
    bar.outline.set_visible(False)


def _with_thousands(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))


def _unit_square(axes: Axes) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))


def _with_interval(name: str, value: float, interval: Interval | None) -> str:
    if interval is None:
        return f"{name} {value:.3f}"
    return f"{name} {value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
