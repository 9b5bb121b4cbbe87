"""Tracked: a monitoring run as a run in MLflow, with its numbers, figures and report.

Each monitoring run is a run of its own in ``<experiment>-monitoring``, inside of one run a model's
version, which has the same numbers step after step: there MLflow draws them over time. Over REST:
importing MLflow takes longer than most monitoring runs. What is written is decided elsewhere; a run
that was cut off stands there as failed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from greenroom.errors import GreenroomError, RegistryError
from greenroom.findings import Findings
from greenroom.log.mlflow_runs import MAX_METRICS, experiment_id
from greenroom.monitoring.conclusions import Conclusion
from greenroom.monitoring.measures import measures
from greenroom.registry.artifacts import upload_file
from greenroom.registry.mlflow_rest import MlflowRest

__all__ = ["SUFFIX", "MonitoringRuns"]

SUFFIX: Final = "-monitoring"
"""What the experiment is called behind the name of the app's."""

_TAG: Final = "greenroom.monitoring"
_PARENT_TAG: Final = "mlflow.parentRunId"
_NOTE_TAG: Final = "mlflow.note.content"
_STEP_OF: Final = "rows"
_LONGEST_PARAM: Final = 6_000
_MOST_PARAMS: Final = 100


class MonitoringRuns:
    """The monitoring runs of one experiment.

    Parameters
    ----------
    rest : MlflowRest
    experiment : str
        Its name; made where it is not there.
    """

    def __init__(self, rest: MlflowRest, experiment: str) -> None:
        self._rest: Final = rest
        self._experiment: Final = experiment

    def record(
        self,
        findings: Findings,
        conclusion: Conclusion,
        params: Mapping[str, str],
        files: Mapping[str, bytes],
    ) -> str:
        """Write a monitoring run, and return its address in MLflow's pages.

        Parameters
        ----------
        findings : Findings
        conclusion : Conclusion
            Of these findings.
        params : mapping of str to str
            What was compared with what, and by which thresholds.
        files : mapping of str to bytes
            The run's artifacts by their paths.

        Raises
        ------
        RegistryError
            When MLflow is away or refuses.
        """
        experiment = experiment_id(self._rest, self._experiment)
        at_ms = _milliseconds(findings.at)
        parent, step = self._parent(experiment, findings, at_ms)
        info = self._made(
            experiment,
            f"{findings.model} v{findings.version} {findings.at[:16].replace('T', ' ')}",
            at_ms,
            {**_tags(findings, conclusion), _PARENT_TAG: parent},
        )
        run_id, uri = str(info["run_id"]), str(info["artifact_uri"])
        status = "FAILED"
        try:
            numbers = measures(findings)
            self._log(run_id, numbers, at_ms, step, dict(islice(params.items(), _MOST_PARAMS)))
            for path, content in files.items():
                upload_file(self._rest, uri, path, content)
            self._log(parent, numbers, at_ms, step)
            status = "FINISHED"
        finally:
            # Whatever ended it, it is over; that this cannot be said either changes nothing.
            with suppress(GreenroomError):
                self._end(run_id, status)
        return f"{self._rest.uri}/#/experiments/{experiment}/runs/{run_id}"

    def _parent(self, experiment: str, findings: Findings, at_ms: int) -> tuple[str, int]:
        """Return the run of a version, made where there is none, and the step that comes next."""
        key = f"{findings.model} v{findings.version} {findings.digest[:12]} {findings.source}"
        key = key.replace("'", "_")
        body = {
            "experiment_ids": [experiment],
            "filter": f"tags.`{_TAG}` = '{key}'",
            "run_view_type": "ACTIVE_ONLY",
            "order_by": ["attributes.start_time ASC", "attributes.run_id ASC"],
            "max_results": 1,
        }
        runs = self._rest.post("runs/search", body).get("runs", [])
        if runs:
            known = runs[0].get("data", {}).get("metrics", [])
            steps = [int(one.get("step", 0)) for one in known if one["key"] == _STEP_OF]
            return str(runs[0]["info"]["run_id"]), max(steps, default=-1) + 1
        of = "" if findings.source == "log" else f" on {findings.source}"
        name = f"{findings.model} v{findings.version}{of}"
        info = self._made(experiment, name, at_ms, {_TAG: key, **_identity(findings)})
        self._end(str(info["run_id"]), "FINISHED")  # it can be written to all the same
        return str(info["run_id"]), 0

    def _made(
        self, experiment: str, name: str, at_ms: int, tags: Mapping[str, str]
    ) -> Mapping[str, Any]:
        body = {
            "experiment_id": experiment,
            "run_name": name,
            "start_time": at_ms,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        try:
            info: dict[str, Any] = self._rest.post("runs/create", body)["run"]["info"]
        except (KeyError, TypeError) as error:
            raise RegistryError(f"MLflow's answer about its runs lacks {error}") from error
        return info

    def _log(
        self,
        run_id: str,
        numbers: Mapping[str, float],
        at_ms: int,
        step: int,
        params: Mapping[str, str] | None = None,
    ) -> None:
        """Write metrics and parameters, as many in a call as MLflow takes."""
        named = [
            {"key": name, "value": value, "timestamp": at_ms, "step": step}
            for name, value in numbers.items()
        ]
        said = [{"key": k, "value": v[:_LONGEST_PARAM]} for k, v in (params or {}).items()]
        room = MAX_METRICS - len(said)
        self._rest.post(
            "runs/log-batch", {"run_id": run_id, "metrics": named[:room], "params": said}
        )
        for part in _parts(named[room:]):
            self._rest.post("runs/log-batch", {"run_id": run_id, "metrics": part})

    def _end(self, run_id: str, status: str) -> None:
        now_ms = int(dt.datetime.now(dt.UTC).timestamp() * 1_000)
        self._rest.post("runs/update", {"run_id": run_id, "status": status, "end_time": now_ms})


def _parts(metrics: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for first in range(0, len(metrics), MAX_METRICS):
        yield metrics[first : first + MAX_METRICS]


def _identity(findings: Findings) -> dict[str, str]:
    return {
        "greenroom.app": findings.app,
        "greenroom.registered_model": findings.model,
        "greenroom.version": findings.version,
    }


def _tags(findings: Findings, conclusion: Conclusion) -> dict[str, str]:
    """Return what the run is labelled with: what it is of, what was found, and that in words."""
    answers = {
        f"greenroom.{topic.name.replace(' ', '_')}": {
            "found": "found",
            "nothing": "not found",
            "unsaid": "not known",
        }[topic.state]
        for topic in conclusion.topics
    }
    topics = "\n".join(f"- {topic.name}: {topic.text}" for topic in conclusion.topics)
    note = f"**{conclusion.headline}**\n\n{topics}"
    return {**_identity(findings), **answers, _NOTE_TAG: note}


def _milliseconds(at: str) -> int:
    return int(dt.datetime.fromisoformat(at).timestamp() * 1_000)
