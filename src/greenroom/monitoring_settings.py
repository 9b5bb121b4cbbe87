"""The settings of monitoring and alerts; a part of :class:`greenroom.settings.Settings`.

What is found and when an alert is raised on it is :mod:`greenroom.monitoring`'s business.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["MonitoringSettings"]

Address = Annotated[str, Meta(pattern=r"^(https?://[^/\s]+.*)?$")]


class MonitoringSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting of monitoring, with its default."""

    track_drift: Annotated[
        bool,
        Meta(
            description="Compare what is asked with what the version was trained on, every "
            "`monitor_interval_s`, while the server runs."
        ),
    ] = True
    monitor_interval_s: Annotated[
        float,
        Meta(ge=0, description="How often a server starts `greenroom monitor`; `0`: never."),
    ] = 3_600.0
    monitor_window: Annotated[
        str,
        Meta(
            pattern=r"^[1-9][0-9]*[smhdw]$",
            description="How much of the log such a run compares, as `24h`.",
        ),
    ] = "24h"
    drift_min_rows: Annotated[
        int,
        Meta(ge=10, description="Of how many rows at least it is said whether they have drifted."),
    ] = 100
    drift_psi: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(
            description="The population stability index from which on a distribution has drifted."
        ),
    ] = 0.2
    alert_interval_s: Annotated[
        float,
        Meta(ge=0.1, description="How often a server looks whether there is something to alert."),
    ] = 10.0
    alert_window_s: Annotated[
        float,
        Meta(gt=0, description="How far back answers count for response times and errors."),
    ] = 300.0
    alert_for_s: Annotated[
        float,
        Meta(
            ge=0,
            description="How long a condition has to hold before an alert fires, and has not to "
            "hold before it is over.",
        ),
    ] = 60.0
    alert_min_requests: Annotated[
        int,
        Meta(
            ge=1,
            description="How many answers the window has to hold before their times and errors "
            "mean anything.",
        ),
    ] = 10
    alert_response_time_ms: Annotated[
        Annotated[float, Meta(gt=0, le=10_000)] | None,
        Meta(
            description="Alert when more than 5 % of a model's answers take longer: when their "
            "95th percentile is above this."
        ),
    ] = None
    alert_error_rate_percent: Annotated[
        Annotated[float, Meta(ge=0, le=100)] | None,
        Meta(
            description="Alert when more of a model's answers have a status of 500 or above; those "
            "of 4xx are the callers'."
        ),
    ] = None
    alert_silence_s: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Alert when a model that was asked something is asked nothing for so long."
        ),
    ] = None
    alert_log_waiting_s: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Alert when predictions wait for longer than this, and "
            "`log_ship_interval_s`, to be written into the log's tables."
        ),
    ] = 600.0
    alert_registry_s: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="Alert when the registry has not answered for so long."),
    ] = 600.0
    alert_unlogged: Annotated[
        bool,
        Meta(description="Alert when predictions were refused or not noted for want of room."),
    ] = True
    alert_drift: Annotated[
        bool, Meta(description="Alert on drift of the data and of the predictions.")
    ] = True
    alert_performance: Annotated[
        bool,
        Meta(
            description="Alert when a version answers worse than it did in training, and on "
            "concept drift."
        ),
    ] = True
    alert_runs: Annotated[
        int,
        Meta(
            ge=1,
            description="In how many monitoring runs, one after the other, drift or a worse "
            "performance has to be found before an alert fires.",
        ),
    ] = 1
    alert_repeat_s: Annotated[
        float,
        Meta(
            ge=0,
            description="After how long the notice of an alert that still fires is sent again; "
            "`0`: never.",
        ),
    ] = 14_400.0
    alert_webhook_url: Annotated[
        Address,
        Meta(description="Where notices are posted to, in the form of Alertmanager's webhooks."),
    ] = ""
    alert_webhook_secret: Annotated[
        str,
        Meta(
            description="The secret that notices are signed with, at least 16 bytes; better in a "
            "file."
        ),
    ] = ""
    alert_webhook_secret_file: Annotated[
        str, Meta(description="A file that holds this secret; relative to `home`.")
    ] = ""
    alertmanager_url: Annotated[
        Address,
        Meta(description="An Alertmanager that is told what fires, as `http://127.0.0.1:9093`."),
    ] = ""
    alert_link: Annotated[
        Address,
        Meta(
            description="The server's own address as whoever reads a notice can reach it; default: "
            "what it listens on."
        ),
    ] = ""
    alert_mlflow_tags: Annotated[
        bool,
        Meta(
            description="Write what fires into the tag `greenroom.alerts` of the registered model "
            "and its version."
        ),
    ] = True
