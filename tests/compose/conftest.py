"""What the tests of the stacks share: an engine that answers, or the reason why they are skipped.

Everything here is marked ``compose`` and left out of ``make test``; ``make test-compose`` runs it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BASES = ("python:3.11-slim-bookworm", "postgres:15-bookworm", "prom/prometheus:v2.42.0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.compose)
            item.add_marker(pytest.mark.timeout(1500))


def failure(*words: str) -> str:
    """Run docker; return why it failed, or nothing."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    return done.stderr.strip()[-200:] or "it says no more" if done.returncode else ""


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Skip everything where no Docker engine answers, or what stacks are built on is missing."""
    if shutil.which("docker") is None:
        pytest.skip("there is no docker on this machine")
    for words in (["info"], ["compose", "version"]):
        if problem := failure(*words):
            pytest.skip(f"`docker {' '.join(words)}` fails here: {problem}")
    for image in BASES:
        if failure("image", "inspect", image) and (problem := failure("pull", "-q", image)):
            pytest.skip(f"the image {image} is not here and cannot be pulled: {problem}")
