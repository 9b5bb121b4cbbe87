"""The machine that the figures come from: what it is, and whether it is quiet enough."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

QUIET_LOAD = 0.5
"""A load average over one minute above this means that something else runs."""

PACKAGES = (
    "greenroom",
    "mlflow",
    "fastapi",
    "pydantic",
    "pandas",
    "scikit-learn",
    "numpy",
    "msgspec",
    "onnxruntime",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
)


def load_average() -> float:
    """Return the load average over one minute."""
    return os.getloadavg()[0]


def cores() -> tuple[int, int]:
    """Return the server's core and the load generator's.

    Raises
    ------
    SystemExit
        When there is only one.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        sys.exit("bench-serving needs two cores: one for the server, one for the load")
    return usable[0], usable[1]


def about() -> dict[str, Any]:
    """Describe the machine, the commit and the versions."""
    return {
        "machine": f"{_cpu_model()}, {os.cpu_count()} cores, {_memory_gb():.0f} GB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "commit": _commit(),
        "load average at start": f"{load_average():.2f}",
        "versions": {name: version(name) for name in PACKAGES},
    }


def version(package: str) -> str:
    """Return the installed version; a dash when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "-"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
