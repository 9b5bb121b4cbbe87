"""The kinds of panels that the dashboard has, and how each of them looks.

Which there are, and what they ask for, is ``dashboard.py``'s business.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import (
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

__all__ = [
    "GOOD_IS_0",
    "GOOD_IS_1",
    "SOURCE",
    "Panel",
    "distribution",
    "figure",
    "lines",
    "listing",
    "states",
]

Panel: TypeAlias = Any
"""A builder of the library; each kind has a class of its own, without a common one."""

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, ORANGE, RED = "green", "orange", "red"

GOOD_IS_1: Final = {"1": ("yes", GREEN), "0": ("no", RED)}
GOOD_IS_0: Final = {"0": ("no", GREEN), "1": ("yes", RED)}

_HEIGHT: Final = 8
_STAT_HEIGHT: Final = 4


def lines(
    title: str,
    about: str,
    queries: dict[str, str],
    *,
    unit: str = "short",
    width: int = 12,
    limits: tuple[float, float] | None = None,
    at_least: float | None = 0.0,
    stacked: bool = False,
) -> Panel:
    """Return figures over time.

    Parameters
    ----------
    title, about : str
        What it shows, and how to read it.
    queries : dict of str to str
        By legend, in Prometheus' templates, the expressions.
    unit : str
        One of Grafana's.
    width : int
        Of 24.
    limits : tuple of float, optional
        From where on it is orange, and red; drawn as areas.
    at_least : float, optional
        Where the axis begins.
    stacked : bool
        Whether the figures add up.
    """
    made = timeseries.Panel().line_width(1.0).fill_opacity(30.0 if stacked else 8.0)
    made = made.legend(_legend()).tooltip(_tooltip()).show_points(common.VisibilityMode.NEVER)
    if stacked:
        made = made.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if at_least is not None:
        made = made.min(at_least)
    if limits is not None:
        style = common_builders.GraphThresholdsStyleConfig()
        made = made.thresholds_style(style.mode(common.GraphThresholdsStyleMode.AREA))
        made = made.thresholds(_thresholds(*limits))
    return _asked(_described(made, title, about, unit, width, _HEIGHT), queries)


def figure(
    title: str,
    about: str,
    query: str,
    *,
    legend: str = "",
    unit: str = "short",
    width: int = 4,
    limits: tuple[float, float] | None = None,
    words: dict[str, tuple[str, str]] | None = None,
) -> Panel:
    """Return the last value of a figure, large, coloured by its limits or by ``words``."""
    made = stat.Panel().reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    made = made.color_mode(common.BigValueColorMode.BACKGROUND if limits or words else _PLAIN)
    made = made.graph_mode(common.BigValueGraphMode.NONE if words else _SPARKLINE)
    made = made.thresholds(_thresholds(*limits)) if limits else made.thresholds(_thresholds())
    if words:
        made = made.mappings([_in_words(words)])
    return _asked(_described(made, title, about, unit, width, _STAT_HEIGHT), {legend: query})


_PLAIN: Final = common.BigValueColorMode.VALUE
_SPARKLINE: Final = common.BigValueGraphMode.AREA


def states(
    title: str,
    about: str,
    queries: dict[str, str],
    *,
    words: dict[str, tuple[str, str]],
    width: int = 12,
) -> Panel:
    """Return what was the case when: a band for each series, in the colours of ``words``."""
    made = statetimeline.Panel().mappings([_in_words(words)]).legend(_legend()).tooltip(_tooltip())
    made = made.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
    made = made.show_value(common.VisibilityMode.NEVER).merge_values(True).row_height(0.8)
    return _asked(_described(made, title, about, "short", width, _HEIGHT), queries)


def distribution(title: str, about: str, query: str, *, unit: str, width: int = 12) -> Panel:
    """Return the buckets of a histogram over time."""
    made = heatmap.Panel().calculate(False).y_axis(heatmap.YAxisConfig().unit(unit))
    made = made.cell_values(heatmap.CellValues().unit("reqps")).hide_legend()
    made = _described(made, title, about, unit, width, _HEIGHT)
    asked = _query(query, "{{le}}", "A").format(PromQueryFormat.HEATMAP).range()
    return made.with_target(asked)


def listing(
    title: str, about: str, query: str, *, columns: dict[str, str], width: int = 12
) -> Panel:
    """Return the labels of the series that there are now, as a table.

    Parameters
    ----------
    title, about, query
        As of :func:`lines`.
    columns : dict of str to str
        The labels that are shown, in their order, and what they are called; ``Value`` is the
        series' value.
    width : int
        Of 24.
    """
    order = {name: position for position, name in enumerate(columns)}
    keep = DataTransformerConfig(
        id_val="filterFieldsByName", options={"include": {"names": list(columns)}}
    )
    arrange = DataTransformerConfig(
        id_val="organize", options={"indexByName": order, "renameByName": columns}
    )
    made = _described(table.Panel().show_header(True), title, about, "short", width, _HEIGHT)
    made = made.transformations([keep, arrange])
    return made.with_target(_query(query, "", "A").format(PromQueryFormat.TABLE).instant())


def _described(made: Panel, title: str, about: str, unit: str, width: int, height: int) -> Panel:
    made = made.title(title).description(about).unit(unit).span(width).height(height)
    return made.datasource(SOURCE).no_value("none")


def _asked(made: Panel, queries: dict[str, str]) -> Panel:
    for position, (legend, expression) in enumerate(queries.items()):
        made = made.with_target(_query(expression, legend, chr(ord("A") + position)).range())
    return made


def _query(expression: str, legend: str, ref_id: str) -> prometheus.Dataquery:
    asked = prometheus.Dataquery().expr(expression).legend_format(legend or "__auto")
    return asked.ref_id(ref_id).datasource(SOURCE)


def _thresholds(orange: float | None = None, red: float | None = None) -> Any:
    steps = [Threshold(value=None, color=GREEN)]
    if orange is not None and red is not None:
        # Of something that is better higher, the colours go the other way.
        high = red >= orange
        ends = ((orange, ORANGE), (red, RED)) if high else ((red, ORANGE), (orange, GREEN))
        steps = [Threshold(value=None, color=GREEN if high else RED)]
        steps += [Threshold(value=value, color=color) for value, color in ends]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _in_words(words: dict[str, tuple[str, str]]) -> ValueMap:
    options = {
        value: ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(words.items())
    }
    return ValueMap(options=options)


def _legend() -> Any:
    made = common_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST)
    return made.placement(common.LegendPlacement.BOTTOM).show_legend(True).calcs([])


def _tooltip() -> Any:
    made = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    return made.sort(common.SortOrder.DESCENDING)
