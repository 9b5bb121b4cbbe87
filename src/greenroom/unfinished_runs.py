"""Runs in MLflow that a training has left open because its process was killed.

A training ends its own run, also when it fails or is stopped; one that is killed cannot. Whoever
has begun it as a job ends it then. That a process was killed is :mod:`greenroom.supervision.jobs`'
to see.
"""

from __future__ import annotations

import time
from typing import Any, Final

from greenroom.registry.mlflow_rest import MlflowRest

__all__ = ["JOB_TAG", "JOB_VARIABLE", "end_runs"]

JOB_VARIABLE: Final = "GREENROOM_JOB"
"""Tells a training whose job it is."""

JOB_TAG: Final = "greenroom.job"
"""What the training's run is labelled with then."""

_PROBLEM_TAG: Final = "greenroom.problem"
_PAGE: Final = 1_000


def end_runs(rest: MlflowRest, job_id: str, problem: str) -> int:
    """End the runs that a job has left open, and those below them, as failed.

    Parameters
    ----------
    rest : MlflowRest
    job_id : str
        Of a job whose process has ended.
    problem : str
        Why, for who looks at the run.

    Returns
    -------
    int
        How many there were.

    Raises
    ------
    RegistryError
        When MLflow is away or refuses.
    """
    found = rest.post("experiments/search", {"max_results": _PAGE}).get("experiments", [])
    experiments = [str(one["experiment_id"]) for one in found]
    left = _open(rest, experiments, JOB_TAG, job_id)
    for run in list(left):
        left += _open(rest, experiments, "mlflow.parentRunId", run)
    for run in left:
        tag = {"run_id": run, "key": _PROBLEM_TAG, "value": problem}
        rest.post("runs/set-tag", tag)
        ended = {"run_id": run, "status": "FAILED", "end_time": time.time_ns() // 1_000_000}
        rest.post("runs/update", ended)
    return len(left)


def _open(rest: MlflowRest, experiments: list[str], tag: str, value: str) -> list[str]:
    body: dict[str, Any] = {
        "experiment_ids": experiments,
        "filter": f"tags.`{tag}` = '{value}' and attributes.status = 'RUNNING'",
        "max_results": _PAGE,
    }
    return [str(run["info"]["run_id"]) for run in rest.post("runs/search", body).get("runs", [])]
