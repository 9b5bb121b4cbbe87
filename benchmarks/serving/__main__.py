"""``make bench-serving``: run the rounds, print the tables, write the results."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from benchmarks.serving import machine
from benchmarks.serving.load import require_wrk
from benchmarks.serving.report import markdown
from benchmarks.serving.rounds import Bench, run_rounds
from benchmarks.serving.servers import ALTERNATIVES, SERVERS, PeerUnavailableError, Server, parsed
from benchmarks.serving.versions import APPS, ROOT, prepare

RESULTS = ROOT / "benchmarks" / "results"
NOTES = (
    "Greenroom serves from its model store with everything on that is on by default; the registry"
    " is stopped while servers are measured.",
    "`mlflow models serve` and MLServer are given the registered version's own files. MLflow's"
    " scikit-learn flavour answers with classes, all others with probabilities.",
    "Answers are compared with scikit-learn's before and after the loads of each round; a server"
    " that answers wrongly or fails a request is left out, and named here.",
)


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Run everything; the exit status is 1 when a server failed."""
    options = _options(words)
    _refuse_when_busy(force=options.force)
    server_core, load_core = machine.cores()
    wrk = require_wrk()
    about = machine.about()
    about |= {"rounds": options.rounds, "seconds": options.seconds, "load generator": wrk}
    servers, notes = _installed(_chosen(options))
    models = [name for name in options.models if any(name in one.models for one in servers)]
    versions = {name: prepare(name, reuse=options.reuse, say=say) for name in models}
    bench = Bench(versions, server_core, load_core, options.seconds, say)
    sizes = bench.reply_sizes(SERVERS[0])
    samples, failures = run_rounds(bench, servers, options.rounds, sizes)
    notes = [*NOTES, *_taken_busy(force=options.force), *notes, *failures]
    result = {"about": about, "notes": notes, "samples": samples}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "serving.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = markdown(result)
    (RESULTS / "serving.md").write_text(text, encoding="utf-8")
    print(text)
    return 1 if failures else 0


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.serving", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="how long each load lasts")
    names = [server.name for server in SERVERS]
    others = [server.name for server in ALTERNATIVES]
    parser.add_argument("--servers", nargs="+", choices=[*names, *others], default=names)
    parser.add_argument("--models", nargs="+", choices=list(APPS), default=list(APPS))
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        type=parsed,
        metavar="NAME:PROTOCOL:MODEL=COMMAND",
        help="another server; {port}, {directory} and {home} are filled in",
    )
    parser.add_argument(
        "--reuse", action="store_true", help="take versions trained before the sources changed"
    )
    parser.add_argument("--force", action="store_true", help="measure although something else runs")
    return parser.parse_args(words)


def _refuse_when_busy(*, force: bool) -> None:
    if machine.load_average() > machine.QUIET_LOAD and not force:
        sys.exit(
            f"the load average is {machine.load_average():.2f}: something else runs, and the"
            f" figures would be worthless; wait until it is below {machine.QUIET_LOAD}, or --force"
        )


def _taken_busy(*, force: bool) -> list[str]:
    return ["**Taken with --force: something else may have run. Not to be quoted.**"] * force


def _chosen(options: argparse.Namespace) -> list[Server]:
    also: list[Server] = options.also
    known = [*SERVERS, *ALTERNATIVES]
    return [server for server in known if server.name in options.servers] + also


def _installed(servers: Sequence[Server]) -> tuple[list[Server], list[str]]:
    """Return the servers that can be had, and why the others cannot."""
    installed, notes = [], []
    for server in servers:
        try:
            server.install()
        except PeerUnavailableError as error:
            notes.append(str(error))
        else:
            installed.append(server)
    return installed, notes


if __name__ == "__main__":
    sys.exit(main())
