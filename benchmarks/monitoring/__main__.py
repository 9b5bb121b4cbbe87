"""``make bench-monitoring``: drift over windows of the log, and Evidently's over the same rows.

Every measurement is a process of its own. Evidently has an environment of its own, made once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.monitoring.rows import MODEL, MOVED, write_log, write_version
from benchmarks.serving import machine
from benchmarks.serving.__main__ import RESULTS

ROOT = Path(__file__).parents[2]
VENV = ROOT / "benchmarks" / ".venvs" / "evidently"
PINS = ROOT / "benchmarks" / "peers" / "evidently.txt"
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
PEER_SIZES = (10_000, 100_000, 1_000_000)
MOST_S, MOST_MB, TIMES_FASTER = 30.0, 2_048, 20.0
"""What a window of ten million rows may take, and how many times Evidently's time for a million."""


def main(words: Sequence[str] | None = None) -> int:
    """Run it; the exit status is 1 when a target is missed."""
    options = _options(words)
    peer = "" if options.no_peer else _install()
    folder = Path(tempfile.mkdtemp(prefix="bench-monitoring-", dir=options.folder))
    try:
        write_version(folder / "version", options.reference)
        results = [_measured(folder, n_rows, peer, options) for n_rows in options.sizes]
    finally:
        shutil.rmtree(folder)
    about = machine.about()
    text = _report(results, about, options)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "monitoring.md").write_text(text, encoding="utf-8")
    saved = {"about": about, "reference_rows": options.reference, "windows": results}
    (RESULTS / "monitoring.json").write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    missed = list(_missed(results))
    for problem in missed:
        print(f"missed: {problem}")
    return 1 if missed else 0


def _measured(folder: Path, n_rows: int, peer: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one window, the median run by time of so many; its files are removed afterwards."""
    log = folder / str(n_rows)
    print(f"a window of {n_rows:,} rows", file=sys.stderr)
    table = write_log(log, n_rows)
    ours = [sys.executable, "-m", "benchmarks.monitoring.measure", folder / "version", log]
    runs = sorted((_run(ours) for _ in range(options.rounds)), key=lambda run: run["seconds"])
    found: dict[str, Any] = {"n_rows": n_rows, "greenroom": runs[len(runs) // 2]}
    if peer and n_rows in PEER_SIZES:
        script = ROOT / "benchmarks" / "peers" / "evidently_drift.py"
        found["evidently"] = _run(
            [peer, "-W", "ignore", script, folder / "version/rows.parquet", table]
        )
    shutil.rmtree(log / MODEL)
    return found


def _run(command: Sequence[Any]) -> dict[str, Any]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    ran = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
    )
    if ran.returncode:
        sys.exit(f"{command[-3]} failed: {ran.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    return found


def _install() -> str:
    """Make Evidently's environment where there is none; return its Python."""
    python, done = VENV / "bin" / "python", VENV / PINS.name
    if done.exists() and done.read_bytes() == PINS.read_bytes():
        return str(python)
    shutil.rmtree(VENV, ignore_errors=True)
    print("making Evidently's environment (once; some minutes)", file=sys.stderr)
    for command in (
        [sys.executable, "-m", "venv", VENV],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", PINS],
    ):
        ran = subprocess.run([str(word) for word in command], capture_output=True, check=False)
        if ran.returncode:
            print("Evidently cannot be installed here: it is left out", file=sys.stderr)
            return ""
    shutil.copyfile(PINS, done)
    return str(python)


def _missed(results: Sequence[dict[str, Any]]) -> list[str]:
    problems = []
    for one in results:
        ours, peer = one["greenroom"], one.get("evidently")
        if tuple(ours["drifted"]) != MOVED:
            problems.append(f"{one['n_rows']:,} rows: {ours['drifted']} are said to have drifted")
        if ours["seconds"] > MOST_S or ours["peak_mb"] > MOST_MB:
            problems.append(f"{one['n_rows']:,} rows: {ours['seconds']} s, {ours['peak_mb']} MB")
        million = one["n_rows"] == 1_000_000
        if million and peer and peer["seconds"] < TIMES_FASTER * ours["seconds"]:
            problems.append(f"Evidently takes less than {TIMES_FASTER:g} times as long")
    return problems


def _report(
    results: Sequence[dict[str, Any]], about: dict[str, Any], options: argparse.Namespace
) -> str:
    lines = [
        "# Drift over windows of the prediction log",
        "",
        f"{about['machine']}; {about['system']}; load average at the start "
        f"{about['load average at start']}. A reference of {options.reference:,} rows, 20 features "
        "(16 numbers, 4 categories) and two outputs; each run a process of its own, the median of "
        f"{options.rounds}.",
        "",
        "| rows | Greenroom | CPU | memory | Evidently 0.7.23 | its CPU | its memory | ratio |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in results:
        ours, peer = one["greenroom"], one.get("evidently")
        cells = [
            f"{one['n_rows']:,}",
            f"{ours['seconds']:.1f} s",
            f"{ours['cpu_seconds']:.1f} s",
            f"{ours['peak_mb']:,} MB",
        ]
        if peer:
            cells += [
                f"{peer['seconds']:.1f} s",
                f"{peer['cpu_seconds']:.1f} s",
                f"{peer['peak_mb']:,} MB",
                f"{peer['seconds'] / ours['seconds']:.0f}",
            ]
        else:
            cells += ["-"] * 4
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Greenroom's time is from opening the table to the verdict, reading included; Evidently's "
        "begins with the rows in a data frame. Neither has the import of its libraries in it; CPU "
        "has.",
        "",
    ]
    return "\n".join(lines)


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-monitoring", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="rows of a window")
    parser.add_argument("--reference", type=int, default=100_000, help="rows of the reference")
    parser.add_argument("--rounds", type=int, default=3, help="how often each window is measured")
    parser.add_argument("--no-peer", action="store_true", help="without Evidently")
    parser.add_argument("--folder", default=None, help="where tables are made; 90 bytes a row")
    return parser.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main())
