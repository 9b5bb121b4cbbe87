"""``make bench-swaps``: swap two versions under load, and say what it cost."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.serving import machine
from benchmarks.serving.__main__ import RESULTS, say
from benchmarks.serving.answers import Question, Questions, answers
from benchmarks.serving.processes import free_port, memory, running, wait_for
from benchmarks.serving.servers import logs
from benchmarks.serving.versions import ROOT, Version, prepare
from benchmarks.serving.wire import GREENROOM
from benchmarks.swaps.callers import Asked, Tally, call, exchange

CONNECTIONS = 16
SETTLING = 50
"""Swaps before memory counts: both versions have been loaded often enough by then."""

LARGEST_GROWTH = 0.05


def main(words: Sequence[str] | None = None) -> int:
    """Run it; the exit status is 1 when anything failed or memory grew."""
    options = _options(words)
    server_core, load_core = machine.cores()
    versions = [prepare(name, reuse=options.reuse, say=say) for name in ("breast_cancer", "spline")]
    asked = _asked(versions)
    port, log = free_port(), logs() / "swaps.log"
    command = [sys.executable, "-m", "benchmarks.swaps.served", str(port)]
    command += [str(version.directory) for version in versions]
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    first = Question("/predict", asked[0].body, (), 0.0)
    with running(command, path, server_core, log) as process:
        wait_for(lambda: answers(port, first), process, time.monotonic(), log)
        os.sched_setaffinity(0, {load_core})
        result = asyncio.run(_swap_under_load(port, process.pid, asked, options.swaps))
    result = {"about": machine.about(), **result}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "swaps.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, value in result.items():
        if name != "about":
            print(f"{name}: {value}")
    return 0 if passed(result) else 1


def passed(result: dict[str, Any]) -> bool:
    """Whether nothing failed, nothing was answered wrongly or late, and memory stayed."""
    wrong = [result[name] for name in ("failed requests", "wrong answers", "stale reloads")]
    return not any(wrong) and result["memory growth"] < LARGEST_GROWTH


async def _swap_under_load(
    port: int, pid: int, asked: Sequence[Asked], n_swaps: int
) -> dict[str, Any]:
    tally, done = Tally(), asyncio.Event()
    callers = [asyncio.create_task(call(port, asked, tally, done)) for _ in range(CONNECTIONS)]
    control = await asyncio.open_connection("127.0.0.1", port)
    stale, failed, sizes, took_ms = 0, 0, [memory(pid).worker_mb], []
    for number in range(1, n_swaps + 1):
        began_s = time.monotonic()
        status, body = await exchange(control, "/model/reload", b"")
        took_ms.append((time.monotonic() - began_s) * 1000)
        failed += status != 200
        expected = str(number % 2 + 1)
        stale += json.loads(body).get("model_version") != expected
        _, answer = await exchange(control, "/predict", asked[0].body)
        stale += json.loads(answer)["model_version"] != expected
        sizes.append(memory(pid).worker_mb)
        if number % SETTLING == 0:
            say(f"{number} swaps: {sizes[-1]:.1f} MB, {sum(tally.failures.values())} failed")
    done.set()
    await asyncio.gather(*callers)
    control[1].close()
    return _summary(tally, sizes, took_ms, stale, failed)


def _summary(
    tally: Tally, sizes: Sequence[float], took_ms: Sequence[float], stale: int, failed: int
) -> dict[str, Any]:
    settled = sizes[min(SETTLING, len(sizes) // 2)]
    return {
        "swaps": len(took_ms),
        "requests": sum(tally.answers.values()) + sum(tally.failures.values()),
        "answers by version": dict(tally.answers),
        "failed requests": sum(tally.failures.values()) + failed,
        "failures": dict(tally.failures),
        "wrong answers": sum(tally.wrong.values()),
        "stale reloads": stale,
        "swap ms, median": round(sorted(took_ms)[len(took_ms) // 2], 1),
        "worker MB, settled and at the end": [round(settled, 1), round(sizes[-1], 1)],
        "memory growth": round(sizes[-1] / settled - 1, 4),
    }


def _asked(versions: Sequence[Version]) -> list[Asked]:
    """Return requests that both versions take, with what each of them says."""
    rows = versions[0].rows(64)
    expected = [version.expected(rows, classes=False) for version in versions]
    bodies = [one.body for one in Questions.build(GREENROOM, versions[0]).single]
    return [
        Asked(body, {str(n): values[row] for n, values in enumerate(expected, start=1)})
        for row, body in enumerate(bodies)
    ]


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.swaps", description=__doc__)
    parser.add_argument("--swaps", type=int, default=500)
    parser.add_argument(
        "--reuse", action="store_true", help="take versions trained before the sources changed"
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
