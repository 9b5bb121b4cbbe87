"""MLflow runs: what training leaves behind, written through MLflow's own client.

One of the three modules that import MLflow (it costs seconds and some 175 MB); only training and
reproduction need it. Registered models and their versions are :mod:`greenroom.registry.registry`'s.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from greenroom.data.object_stores import lies_in, require_upload, shown
from greenroom.errors import RegistryError, RegistryUnavailable
from greenroom.training.journal import LoggedVersion
from greenroom.training.model_saving import Flavor, be_quiet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


PARAMS_A_BATCH: Final = 100
"""What one ``log_batch`` call of MLflow takes at most."""

_STORE_LIBRARIES: Final = frozenset({"azure", "boto3", "botocore", "google", "requests", "urllib3"})
"""Whose errors MLflow lets through, where a run's files go past it into an object store."""


class Run:
    """One MLflow run, open until its ``with`` block of :meth:`Tracking.run` ends."""

    def __init__(self, client: MlflowClient, run_id: str, url: str) -> None:
        self.id = run_id
        self.url = url
        self._client = client

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record parameters; MLflow keeps them as text."""
        from mlflow.entities import Param

        entries = [Param(name, str(value)) for name, value in params.items()]
        for start in range(0, len(entries), PARAMS_A_BATCH):
            batch = entries[start : start + PARAMS_A_BATCH]
            self._client.log_batch(self.id, params=batch)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Record figures, in one call."""
        import time

        from mlflow.entities import Metric

        now_ms = time.time_ns() // 1_000_000
        entries = [Metric(name, float(value), now_ms, 0) for name, value in metrics.items()]
        self._client.log_batch(self.id, metrics=entries)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Label the run."""
        from mlflow.entities import RunTag

        self._client.log_batch(self.id, tags=[RunTag(key, text) for key, text in tags.items()])

    def log_figures(self, figures: Mapping[str, Figure], folder: str = "figures") -> None:
        """Store figures as PNG files under ``folder``."""
        with tempfile.TemporaryDirectory() as scratch:
            for name, figure in figures.items():
                figure.savefig(Path(scratch) / name, dpi=120)
            self._client.log_artifacts(self.id, scratch, artifact_path=folder)

    def log_files(self, files: Mapping[str, bytes]) -> None:
        """Store files by their path inside the run."""
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in files.items():
                path = Path(scratch) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._client.log_artifacts(self.id, scratch)

    def log_model(
        self,
        estimator: Any,
        *,
        name: str,
        signature: Any,
        example: pd.DataFrame,
        requirements: list[str],
        finish: Callable[[Path], None],
    ) -> LoggedVersion:
        """Store a model in MLflow's own format, with further files inside its directory.

        Parameters
        ----------
        estimator : object
            A fitted scikit-learn estimator or pipeline.
        name : str
            The logged model's name.
        signature : mlflow.models.ModelSignature
            What :func:`greenroom.training.model_saving.signature_of` makes.
        example : DataFrame
            One row, as plain MLflow clients would send it.
        requirements : list of str
            What loading it needs, as pip reads it.
        finish : callable
            Called with the directory when MLflow's own files are in it and before it is uploaded.
        """
        from mlflow.models import Model

        with warnings.catch_warnings():
            # MLflow's own use of pandas; nothing that a user of Greenroom could mend.
            warnings.simplefilter("ignore")
            info = Model.log(
                artifact_path=None,
                name=name,
                flavor=Flavor(),
                run_id=self.id,
                flavor_name="sklearn",
                validate_serving_input=False,
                estimator=estimator,
                signature=signature,
                example=example,
                requirements=requirements,
                finish=finish,
            )
        return LoggedVersion(str(info.model_id), f"models:/{info.model_id}", self.id)

    def upload_folder(self, folder: Path) -> None:
        """Store all that is in a folder, under the same paths."""
        self._client.log_artifacts(self.id, str(folder))

    def upload_model(self, directory: Path, *, name: str) -> LoggedVersion:
        """Store a model that lies in MLflow's own format on this machine, file by file as it is."""
        from mlflow.entities import LoggedModelOutput

        run = self._client.get_run(self.id)
        model = self._client.create_logged_model(
            run.info.experiment_id, name=name, source_run_id=self.id
        )
        model_id = str(model.model_id)
        self._client.log_outputs(self.id, [LoggedModelOutput(model_id, step=0)])
        try:
            self._client.log_model_artifacts(model_id, str(directory))
        except BaseException:
            self._client.finalize_logged_model(model_id, "FAILED")
            raise
        self._client.finalize_logged_model(model_id, "READY")
        return LoggedVersion(model_id, f"models:/{model_id}", self.id)


class Tracking:
    """An experiment on a tracking server.

    Parameters
    ----------
    uri : str
        The MLflow server.
    experiment : str
        Made when it is not there.
    place : str
        The address that its files have to lie under; empty for where the server puts them.

    Raises
    ------
    RegistryUnavailable
        When the server does not answer.
    RegistryError
        When the experiment has been deleted, keeps its files elsewhere, or these could not be
        uploaded from here.
    """

    def __init__(self, uri: str, experiment: str, place: str = "") -> None:
        be_quiet()
        import mlflow

        mlflow.set_tracking_uri(uri)
        self._uri = uri.rstrip("/")
        self._client = mlflow.MlflowClient(uri)
        with _named_errors(uri):
            found = self._experiment(experiment, place)
        location = str(found.artifact_location)
        if place and not lies_in(location, place):
            raise RegistryError(
                f"the experiment {experiment!r} keeps its files at {shown(location)}, and in prod "
                f"they have to lie in {shown(place)}",
                advice="give prod an MLflow of its own, or delete the experiment for good there",
            )
        # Now, and not when a training of an hour is over.
        require_upload(location, RegistryError)
        self.experiment_id = str(found.experiment_id)
        # A model that is logged asks for this alone; without it, it would be of experiment 0.
        mlflow.set_experiment(experiment_id=self.experiment_id)

    def _experiment(self, name: str, place: str) -> Experiment:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                raise RegistryError(
                    f"the experiment {name!r} has been deleted on {self._uri}",
                    advice="restore it in MLflow's pages, or give the app another experiment",
                )
            return found
        within = f"{place.rstrip('/')}/{quote(name, safe='')}" if place else None
        try:
            return self._client.get_experiment(self._client.create_experiment(name, within))
        except MlflowException:
            # Another training made it in the meantime.
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return found

    @contextmanager
    def run(
        self,
        name: str,
        *,
        tags: Mapping[str, str],
        parent: Run | None = None,
        started_at_ms: int | None = None,
        ended_at_ms: int | None = None,
    ) -> Iterator[Run]:
        """Open a run; it ends FINISHED, FAILED by an error, or KILLED by Ctrl-C.

        Parameters
        ----------
        started_at_ms, ended_at_ms : int, optional
            Of a run that took place before; in milliseconds since 1970-01-01 UTC.
        """
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        labels = dict(tags)
        if parent is not None:
            labels[MLFLOW_PARENT_RUN_ID] = parent.id
        with _named_errors(self._uri):
            created = self._client.create_run(
                self.experiment_id, start_time=started_at_ms, run_name=name, tags=labels
            )
        run_id = str(created.info.run_id)
        url = f"{self._uri}/#/experiments/{self.experiment_id}/runs/{run_id}"
        try:
            with _named_errors(self._uri):
                yield Run(self._client, run_id, url)
        except BaseException as error:
            status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            self._client.set_terminated(run_id, status)
            raise
        self._client.set_terminated(run_id, end_time=ended_at_ms)

    def end_unfinished(self, tag: str, value: str) -> int:
        """End the runs of a process that was killed: those that carry a tag and are still open.

        Returns
        -------
        int
            How many there were.
        """
        with _named_errors(self._uri):
            open_runs = self._client.search_runs(
                [self.experiment_id],
                f"tags.`{tag}` = '{value}' and attributes.status = 'RUNNING'",
            )
            for run in open_runs:
                self._client.set_terminated(run.info.run_id, "KILLED")
        return len(open_runs)


@contextmanager
def _named_errors(uri: str) -> Iterator[None]:
    """Turn MLflow's exceptions into ours; its messages can be pages long."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        reason = _first_line(error)
        if "Max retries exceeded" in reason or "API request to" in reason:
            raise RegistryUnavailable(
                f"Failed to connect to MLflow at {uri}: {reason}",
                advice="start it, or set MLFLOW_TRACKING_URI",
            ) from error
        raise RegistryError(f"MLflow at {uri} refused: {reason}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _STORE_LIBRARIES:
            raise
        raise RegistryError(
            f"the run's files cannot be uploaded: {_first_line(error)}",
            advice="check the network and the credentials of the object store",
        ) from error


def _first_line(error: Exception) -> str:
    """Return what is said first, of a bounded length; the rest can be pages."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
