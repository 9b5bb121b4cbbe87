"""What is served: versions trained, registered and selected by ``greenroom up``, once.

``greenroom up`` starts MLflow, trains the app, registers, promotes and serves; it is stopped when
it answers. Everything it left (MLflow's database, the model store) is in ``benchmarks/.cache``, and
is used again until the app or Greenroom's sources change. All servers get the files of the same
registered version.
"""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.serving.processes import free_port, running, wait_for
from greenroom.data.fingerprint import combined_digest, tree_digests
from greenroom.errors import VersionCorrupt
from greenroom.evaluation.evidence import read_reference
from greenroom.versions.manifest import REFERENCE_FILE, Manifest, read_manifest

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "benchmarks" / ".cache"
APPS = {
    "breast_cancer": ROOT / "apps" / "breast_cancer",
    "forest": ROOT / "benchmarks" / "apps" / "forest",
    "spline": ROOT / "benchmarks" / "apps" / "spline",
}
_KEY_FILE = "made-from.json"


@dataclass(frozen=True)
class Version:
    """A registered version: its files, where a server finds it, and what scikit-learn says.

    Parameters
    ----------
    model : str
        The benchmark's name for it.
    home : Path
        Greenroom's home folder, with the model store.
    directory : Path
        The version's files, an ordinary MLflow model.
    tracking_uri : str
        The registry that it came from. It is stopped while servers are measured.
    """

    model: str
    home: Path
    directory: Path
    tracking_uri: str

    @cached_property
    def manifest(self) -> Manifest:
        """What Greenroom wrote down about the version."""
        manifest = read_manifest(self.directory)
        if manifest is None:
            raise VersionCorrupt(f"{self.directory} was not made by Greenroom")
        return manifest

    @cached_property
    def estimator(self) -> Any:
        """The fitted estimator."""
        return pickle.loads(self.estimator_file.read_bytes())  # noqa: S301 - trained here

    @property
    def estimator_file(self) -> Path:
        """The pickled estimator."""
        return self.directory / "model.pkl"

    @property
    def names(self) -> list[tuple[str, str]]:
        """Each column's name in requests, and the model's own."""
        return [(column.request_name, column.name) for column in self.manifest.columns]

    def rows(self, n_rows: int) -> list[list[float]]:
        """Return rows of the reference sample, from the start again when they run out."""
        manifest = self.manifest
        path = self.directory / REFERENCE_FILE
        columns, _, _ = read_reference(path, manifest.schema, manifest.classes)
        matrix = np.column_stack([columns[column.name] for column in manifest.columns])
        rows: list[list[float]] = np.resize(matrix, (n_rows, matrix.shape[1])).tolist()
        return rows

    def expected(self, rows: list[list[float]], *, classes: bool) -> list[float]:
        """Return scikit-learn's probability of the second class for each row, or its class."""
        import pandas as pd

        frame = pd.DataFrame(rows, columns=[name for _, name in self.names])
        predict: Callable[[Any], npt.NDArray[Any]] = self.estimator.predict
        if not classes:
            predict = lambda X: self.estimator.predict_proba(X)[:, 1]  # noqa: E731
        values: list[float] = predict(frame).astype(np.float64).tolist()
        return values


def prepare(model: str, *, reuse: bool, say: Callable[[str], None]) -> Version:
    """Return a registered version of the model, trained now or before.

    Parameters
    ----------
    model : str
        One of ``APPS``.
    reuse : bool
        Take what was trained before, also where sources have changed since.
    say : callable
        Told what takes long.

    Raises
    ------
    ServerError
        When ``greenroom up`` does not come to answer; the message holds the end of its log.
    """
    home = CACHE / model
    made_from = _sources(model)
    found = _made_from(home)
    if not found or not (reuse or found["digest"] == made_from):
        say(f"training {model} with `greenroom up` (once; about a minute)")
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        uri = f"http://127.0.0.1:{free_port()}"
        _train(model, home, uri)
        found = {"digest": made_from, "tracking_uri": uri}
        (home / _KEY_FILE).write_text(json.dumps(found), encoding="utf-8")
    (directory,) = (home / "store" / "versions").iterdir()
    return Version(model, home, directory, found["tracking_uri"])


def serve_command(model: str) -> list[str]:
    """Return the command that serves an app from what is in its home folder."""
    return [sys.executable, "-m", "greenroom", "serve", str(APPS[model])]


def environment(home: Path, tracking_uri: str, port: int) -> dict[str, str]:
    """Return the settings of a Greenroom server."""
    return {
        "GREENROOM_HOME": str(home),
        "GREENROOM_PORT": str(port),
        "MLFLOW_TRACKING_URI": tracking_uri,
    }


def _train(model: str, home: Path, tracking_uri: str) -> None:
    import httpx

    port, log = free_port(), home / "up.log"
    command = [sys.executable, "-m", "greenroom", "up", str(APPS[model])]

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5.0).status_code == 200
        except httpx.HTTPError:
            return False

    with running(command, environment(home, tracking_uri, port), None, log) as process:
        wait_for(ready, process, time.monotonic(), log, timeout_s=600.0, every_s=0.5)


def _sources(model: str) -> str:
    """Digest the app and everything of Greenroom that could make a version of it."""
    app = tree_digests(APPS[model], ["*.py", "**/*.py"])
    package = tree_digests(ROOT / "src" / "greenroom", ["*.py"])
    return combined_digest({**app, **{f"greenroom/{name}": text for name, text in package.items()}})


def _made_from(home: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((home / _KEY_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found
