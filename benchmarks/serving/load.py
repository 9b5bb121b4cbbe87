"""The load generator: wrk with a script of ours, on a core of its own.

wrk keeps its connections open and sends the next request of a connection when the last is answered
(a closed loop). It makes several times as many requests as the fastest server here, so one core is
enough; the empty app's figures show that much.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT_S = 60
TOKEN = "of-the-benchmark-0123456789abcdef"  # noqa: S105 - sent to all, heeded by one
"""What every request carries, whoever looks at it."""


@dataclass(frozen=True)
class Load:
    """One kind of load: how many connections, and how many rows a request holds."""

    connections: int
    n_rows: int = 1

    @property
    def name(self) -> str:
        """``16``, or ``16x1000`` with 1,000 rows a request."""
        return f"{self.connections}" + (f"x{self.n_rows}" if self.n_rows > 1 else "")


ALONE, USUAL, MANY = Load(1), Load(16), Load(64)
BULK_ALONE, BULK = Load(1, 1_000), Load(16, 1_000)


@dataclass(frozen=True)
class Loaded:
    """What came of a load; latencies are wrk's own, from sending to the whole reply."""

    rps: float
    p50_ms: float
    p99_ms: float
    errors: int


def require_wrk() -> str:
    """Return wrk's version; install it from Debian's packages where that is possible.

    Raises
    ------
    SystemExit
        When it is neither installed nor installable.
    """
    if shutil.which("wrk") is None and shutil.which("apt-get") and os.geteuid() == 0:
        for command in (["apt-get", "-qq", "update"], ["apt-get", "-qq", "-y", "install", "wrk"]):
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if shutil.which("wrk") is None:
        sys.exit("the load generator wrk is not installed; `apt-get install wrk` or its like")
    found = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return found.stdout.split("[")[0].strip() or "wrk"


def run(url: str, bodies: Path, load: Load, *, seconds: int, core: int) -> Loaded:
    """Load a server; every request's body is a line of ``bodies``, in turn.

    Raises
    ------
    RuntimeError
        When wrk fails, or says nothing.
    """
    command = ["taskset", "--cpu-list", str(core), "wrk", "--threads", "1"]
    command += ["--connections", str(load.connections), "--duration", f"{seconds}s"]
    command += ["--timeout", f"{TIMEOUT_S}s", "--script", str(SCRIPT), url]
    environment = {**os.environ, "BENCH_BODIES": str(bodies), "BENCH_TOKEN": TOKEN}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return parse(done.stdout.splitlines(), done.stderr)


def parse(lines: Sequence[str], problem: str = "") -> Loaded:
    """Read the line that the script prints.

    >>> line = 'BENCH {"requests": 10, "seconds": 2.0, "p50_ms": 1, "p99_ms": 3, "errors": 0}'
    >>> parse(["Running 2s test", line])
    Loaded(rps=5.0, p50_ms=1.0, p99_ms=3.0, errors=0)
    """
    found = [line.removeprefix("BENCH ") for line in lines if line.startswith("BENCH ")]
    if not found:
        raise RuntimeError(f"wrk said nothing: {problem.strip()}")
    said = json.loads(found[0])
    return Loaded(
        rps=said["requests"] / said["seconds"],
        p50_ms=float(said["p50_ms"]),
        p99_ms=float(said["p99_ms"]),
        errors=int(said["errors"]),
    )
