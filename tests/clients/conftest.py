"""A served model for clients that know nothing of Greenroom: its real processes, in its own .venv.

This folder's tests run with the clients' environment; ``GREENROOM_PYTHON`` says where Greenroom's
is, by default ``.venv``.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
PYTHON = os.environ.get("GREENROOM_PYTHON", str(HERE.parents[1] / ".venv" / "bin" / "python"))


@dataclass(frozen=True)
class Served:
    """A model's rows, column by column, and what its estimator answers for them."""

    name: str
    columns: dict[str, list[Any]]
    outputs: dict[str, list[Any]]

    @property
    def matrix(self) -> np.ndarray:
        return np.array(list(self.columns.values()), dtype=np.float64).T

    def agrees(self, output: str, values: np.ndarray, rows: slice = slice(None)) -> bool:
        """Whether values are the estimator's own: labels exactly, numbers but for the last bits."""
        expected = self.outputs[output][rows]
        if output == "reasons" or isinstance(expected[0], str | bool):
            return texts(values) == expected
        return np.allclose(values.astype(np.float64), expected, rtol=1e-6, atol=1e-9)


def texts(values: np.ndarray) -> list[Any]:
    """Return values as plain ones; clients give text as bytes."""
    return [one.decode() if isinstance(one, bytes) else one for one in values.tolist()]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("models")
    command = [PYTHON, str(HERE / "serve_models.py"), str(folder)]
    log = folder / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        try:
            line = process.stdout.readline()
            assert line, log.read_text()
            yield json.loads(line)
        finally:
            process.stdin.close()
            assert process.wait(30) == 0, log.read_text()


@pytest.fixture(scope="session")
def url(server: dict[str, Any]) -> str:
    return server["url"]


@pytest.fixture(scope="session")
def models(server: dict[str, Any]) -> dict[str, Served]:
    return {name: Served(name, **model) for name, model in server["models"].items()}
