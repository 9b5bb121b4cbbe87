"""``make bench-log``: load a server with its log and one without in turn; time noting, shipping."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from benchmarks.log.note import note_us
from benchmarks.log.shipping import ship_us
from benchmarks.log.turns import LOGGED, UNLOGGED, Turns
from benchmarks.serving import machine
from benchmarks.serving.load import ALONE, USUAL, require_wrk
from benchmarks.serving.processes import ServerError
from benchmarks.serving.statistics import by_round, ratios
from benchmarks.serving.versions import ROOT, prepare

RESULTS = ROOT / "benchmarks" / "results"
MODEL = "breast_cancer"
LOADS = (ALONE, USUAL)
LEAST_THROUGHPUT = 0.9
MOST_LATER_MS = 1.0


@dataclass(frozen=True)
class Verdict:
    """What the log costs at one concurrency: medians over the rounds, each compared within itself.

    Parameters
    ----------
    connections : int
    throughput : list of float
        With the log, as a share of without, by round.
    later_ms : list of float
        By how much p99 is later with it, by round.
    shipped : list of float
        Which share of what was logged was shipped while the load lasted, by round.
    """

    connections: int
    throughput: list[float]
    later_ms: list[float]
    shipped: list[float]

    @property
    def met(self) -> bool:
        """Whether both targets hold."""
        enough = median(self.throughput) >= LEAST_THROUGHPUT
        return enough and median(self.later_ms) <= MOST_LATER_MS

    def __str__(self) -> str:
        (least, most), (earliest, latest) = _half(self.throughput), _half(self.later_ms)
        return (
            f"{self.connections:3} connections: throughput {median(self.throughput):.3f} of without"
            f" (half of the rounds {least:.3f}-{most:.3f}), p99 {median(self.later_ms):+.3f} ms"
            f" ({earliest:+.3f} to {latest:+.3f}), {median(self.shipped):.0%} shipped meanwhile:"
            f" {'met' if self.met else 'MISSED'}"
        )


def _half(values: Sequence[float]) -> tuple[float, float]:
    """Return between which bounds the middle half of the values lies."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def judge(samples: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Compare within each round; a concurrency that was never measured is left out.

    >>> def sample(server, rps, p99_ms, **more):
    ...     measures = {"rps@1": rps, "p99_ms@1": p99_ms, **more}
    ...     return {"round": 1, "server": server, "model": "breast_cancer", "measures": measures}
    >>> logged = sample("logged", 95.0, 1.5, **{"shipped@1": 0.5})
    >>> (found,) = judge([logged, sample("unlogged", 100.0, 1.25)])
    >>> found.throughput, found.later_ms, found.met
    ([0.95], [0.25], True)
    >>> str(found)[:48]
    '  1 connections: throughput 0.950 of without (hal'
    """
    verdicts = []
    for load in LOADS:
        shares = ratios(samples, MODEL, f"rps@{load.name}", LOGGED, UNLOGGED)
        shipped = by_round(samples, LOGGED, MODEL, f"shipped@{load.name}")
        with_log = by_round(samples, LOGGED, MODEL, f"p99_ms@{load.name}")
        without = by_round(samples, UNLOGGED, MODEL, f"p99_ms@{load.name}")
        later = [with_log[n] - without[n] for n in sorted(with_log.keys() & without.keys())]
        if shares:
            verdicts.append(Verdict(load.connections, shares, later, list(shipped.values())))
    return verdicts


def main(words: Sequence[str] | None = None) -> int:
    """Run it; the exit status is 1 when a server failed or a target was missed."""
    options = _options(words)
    if machine.load_average() > machine.QUIET_LOAD and not options.force:
        sys.exit(
            f"the load average is {machine.load_average():.2f}: something else runs; wait until it"
            f" is below {machine.QUIET_LOAD}, or --force"
        )
    server_core, load_core = machine.cores()
    about = machine.about() | {"rounds": options.rounds, "seconds": options.seconds}
    about |= {"load generator": require_wrk(), "forced": options.force}
    version = prepare(MODEL, reuse=options.reuse, say=_say)
    ships = {f"{n} requests": round(ship_us(version, n), 2) for n in (1, 16)}
    notes = {f"{n} requests": round(note_us(version, n), 2) for n in (1, 16)}
    turns = Turns(version, server_core, load_core, options.seconds, _say)
    try:
        samples = turns.run(LOADS, options.rounds)
    except ServerError as error:
        sys.exit(f"a server failed: {error}")
    verdicts = judge(samples)
    lines = [str(one) for one in verdicts]
    result = {"about": about, "verdicts": lines}
    result |= {"note, us a call": notes, "ship, us a row": ships, "samples": samples}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "log.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"noting a call takes, in us: {notes}; shipping a row of such a call: {ships}")
    print("\n".join(lines))
    return 0 if verdicts and all(one.met for one in verdicts) else 1


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.log", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="each with the log and without")
    parser.add_argument("--seconds", type=int, default=5, help="how long each load lasts")
    parser.add_argument(
        "--reuse", action="store_true", help="take versions trained before the sources changed"
    )
    parser.add_argument("--force", action="store_true", help="measure although something else runs")
    return parser.parse_args(words)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
