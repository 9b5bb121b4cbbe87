"""Writes Grafana's dashboard of a Greenroom server: ``make dashboard``.

Its panels ask for what ``/metrics`` shows and for Prometheus' alerts, by nothing else: no recording
rule has to be loaded. Names that begin with an app's own prefix are asked for under any prefix.

Built with Grafana's own library for the version of Grafana that the stacks run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import service_rows
import watching_rows
from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from panels import SOURCE
from queries import ON

TARGET: Final = Path(__file__).parent / "provisioning" / "dashboards" / "greenroom.json"


ROWS: Final = {
    "Overview": service_rows.overview,
    "Traffic": service_rows.traffic,
    "Models": service_rows.models,
    "Registry and tracking": watching_rows.registry,
    "Prediction log": watching_rows.prediction_log,
    "Drift": watching_rows.drift,
    "Performance": watching_rows.performance,
    "Alerts": watching_rows.alerts,
    "Processes": service_rows.processes,
}


def _variable(name: str, label: str, metric: str, of: str = "") -> dashboard.QueryVariable:
    """Return what the dashboard can be narrowed to: the values that a label has."""
    made = dashboard.QueryVariable(name).label(label).datasource(SOURCE)
    made = made.query(f"label_values({metric}{of}, {name})")
    made = made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    made = made.sort(VariableSort.ALPHABETICAL_ASC).multi(True).include_all(True).all_value(".*")
    return made.current(VariableOption(selected=True, text="All", value="$__all"))


def build() -> dashboard.Dashboard:
    """Return the dashboard."""
    made = dashboard.Dashboard("Greenroom").uid("greenroom").tags(["greenroom", "mlflow"])
    made = made.description("A Greenroom server: what it answers with, how well, and what fires.")
    made = made.readonly().timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
    made = made.time("now-6h", "now").refresh("30s")
    source = dashboard.DatasourceVariable("datasource").label("source").type("prometheus")
    made = made.with_variable(
        source.current(VariableOption(selected=True, text="Prometheus", value="prometheus"))
    )
    made = made.with_variable(_variable("instance", "server", "greenroom_start_time_seconds"))
    here = f"{{{ON}}}"
    made = made.with_variable(_variable("model", "model", "greenroom_model_problems", here))
    made = made.with_variable(_variable("statistic", "statistic", "greenroom_drift_statistic"))
    made = made.with_variable(_variable("metric", "metric", "greenroom_live_metric"))
    swapped = dashboard.AnnotationQuery().name("Swaps").datasource(SOURCE).enable(True)
    made = made.annotation(
        swapped.icon_color("blue").expr(f"changes(greenroom_generation{{{ON}}}[1m]) > 0")
    )
    for title, panels in ROWS.items():
        made = made.with_row(dashboard.Row(title))
        for panel in panels():
            made = made.with_panel(panel)
    return made


def text() -> str:
    """Return the dashboard as Grafana reads it: JSON."""
    return JSONEncoder(sort_keys=True, indent=2).encode(build().build()) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    print(f"{TARGET} is written")
