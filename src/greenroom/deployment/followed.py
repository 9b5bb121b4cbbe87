"""What is known about a model that is followed: what is served of it, and what failed.

Values that :mod:`greenroom.deployment.following` keeps; nothing is asked or decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from greenroom.deployment.deployments import Target, no_deployment, with_problems
from greenroom.deployment.fallback import Fallback
from greenroom.errors import GreenroomError
from greenroom.inference.generation import Deployment
from greenroom.registry.registered import ModelVersion, RegisteredModel
from greenroom.versions.model_store import Provenance

ANOTHER: Final = "promote another version, or register it anew"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A version that did not load; left alone until the registry says something new about it."""

    version: str
    digest: str
    compiled: str
    updated_at_ms: int | None
    problem: str

    def holds_for(self, version: ModelVersion, digest: str, compiled: str) -> bool:
        """Whether the version is as it was when it failed."""
        unchanged = self.updated_at_ms in {None, version.updated_at_ms}
        found = version.version, digest, compiled
        return unchanged and found == (self.version, self.digest, self.compiled)


@dataclass(slots=True, eq=False)
class Followed:
    """What is known about one target.

    ``accepted`` is what all workers serve of what the registry selected, ``offered`` what the last
    poll found of it; ``chosen``, ``problems`` and ``latest_versions`` are what the registry last
    said. A ``fallback`` stands in where neither can be had.
    """

    target: Target
    accepted: Deployment
    offered: Deployment
    hint: RegisteredModel | None = None
    checked_at_s: float | None = None
    chosen: ModelVersion | None = None
    problems: tuple[str, ...] = ()
    remembered: Deployment | None = None
    fetched: tuple[Provenance, str] | None = None
    failed: tuple[Provenance, float, GreenroomError] | None = None
    rejection: Rejection | None = None
    fallback: Fallback | None = None

    def changed(self, model: RegisteredModel | None) -> bool:
        """Whether the registry shows that what is selected may have changed.

        An alias moves without a trace in the registered model's times, but not in its aliases.
        """
        return self.checked_at_s is None or model != self.hint

    def as_before(self, problem: str, advice: str = ANOTHER) -> Deployment:
        """Return what all workers serve; ``problem`` is why it is not what is selected."""
        if self.accepted.serving is None:
            return no_deployment(self.target, problem, advice)
        return with_problems(self.accepted, problem)
