"""A real supervisor and worker, with a follower that selects another version at each reload.

The follower stands in the place of the registry and selects from two versions on disk in turn:
what is measured is the swap, not MLflow. Run by ``benchmarks.swaps`` as a process of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from greenroom.deployment.following import Follower, Poll
from greenroom.inference.generation import Deployment
from greenroom.settings import Settings
from greenroom.status import RegistryStatus, VersionStatus
from greenroom.supervision.supervisor import Supervisor

FOREVER_S = 3600.0
"""How often the supervisor polls by itself: the reloads are to decide."""


def deployment(directory: Path, version: str) -> Deployment:
    """Select a version in the model store, where a folder is named by its digest."""
    serving = VersionStatus(version=version, stage="Production", digest=directory.name)
    return Deployment(
        model="swapped",
        name="swapped",
        selector="Production",
        route="/predict",
        serving=serving,
        directory=str(directory),
    )


class Alternating:
    """Selects the next deployment whenever it is asked.

    As `greenroom.deployment.following.Follower` does.

    Parameters
    ----------
    deployments : sequence of Deployment
        What is selected in turn.
    """

    def __init__(self, deployments: Sequence[Deployment]) -> None:
        self._next: Iterator[Deployment] = itertools.cycle(deployments)
        self._selected = next(self._next)
        self._registry = RegistryStatus(uri="none: versions alternate", state="healthy")

    def restore(self) -> tuple[Deployment, ...]:
        """Return the first one."""
        return (self._selected,)

    def poll(self, *, force: bool = False) -> Poll:
        """Select the next one when it is a reload that asks, else the same as before."""
        if force:
            self._selected = next(self._next)
        return Poll((self._selected,), self._registry)

    def accepted(self, deployments: Sequence[Deployment]) -> None:
        """Take notice; nothing has to be remembered."""

    def rejected(self, deployment: Deployment, problem: str) -> None:
        """End the server: here every version loads, or something is broken."""
        raise SystemExit(f"{deployment.directory} does not load: {problem}")


def main() -> None:
    """Serve: the arguments are the port and the two directories."""
    port, *directories = sys.argv[1:]
    chosen = [deployment(Path(text), str(n)) for n, text in enumerate(directories, start=1)]
    supervisor = Supervisor(
        settings=Settings(port=int(port), poll_interval_s=FOREVER_S),
        follower=cast("Follower", Alternating(chosen)),
        app_name="swaps",
        on_event=lambda _text: None,
        on_log=lambda line: print(line, flush=True),
    )
    asyncio.run(supervisor.run())


if __name__ == "__main__":
    main()
