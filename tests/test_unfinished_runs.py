"""A training that is a job says so in its run, so that the run is found when the job is killed.

What is done with it then is shown against a real MLflow, in ``test_mlflow_real.py``.
"""

from __future__ import annotations

from types import SimpleNamespace

from greenroom.job import Job, JobOrder
from greenroom.supervision.jobs import _environment
from greenroom.training.recording import run_tags
from greenroom.training_route import TrainingPlan
from greenroom.unfinished_runs import JOB_TAG


def test_the_run_of_a_job_carries_its_id_and_that_of_a_command_does_not(monkeypatch):
    job = Job(
        id="20261121T120000Z-abcdef", order=JobOrder(plan=TrainingPlan(model="m")), began_at=""
    )
    named = SimpleNamespace(name="m", tags={})
    assert JOB_TAG not in run_tags(named, named, named, "digest")
    for name, value in _environment(job).items():
        monkeypatch.setenv(name, value)
    assert run_tags(named, named, named, "digest")[JOB_TAG] == job.id
