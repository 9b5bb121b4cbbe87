"""What the tests of the stacks share: an engine that answers, or the reason why they are skipped.

Everything here is marked ``compose`` and left out of ``make test``; ``make test-compose`` runs it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.compose)
            item.add_marker(pytest.mark.timeout(1500))


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Skip everything where no Docker engine answers, or Compose is missing."""
    if shutil.which("docker") is None:
        pytest.skip("there is no docker on this machine")
    for words in (["docker", "info"], ["docker", "compose", "version"]):
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
        if answer.returncode:
            pytest.skip(f"`{' '.join(words)}` fails here: {answer.stderr.strip()[-200:]}")
