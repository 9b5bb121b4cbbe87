"""What fires, as tags of the registered models and versions that it is about.

So it is seen where versions are looked at and promoted. What the tags say is kept in the book, and
only what differs is written; what cannot be written now is tried again later.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from greenroom.alerts import Alert
from greenroom.errors import NotInRegistry, RegistryError
from greenroom.monitoring.alert_book import AlertBook

__all__ = ["TAG", "MlflowTags", "Tagged", "tags_of"]

TAG: Final = "greenroom.alerts"

PAUSE_S: Final = 60.0
"""How long to wait after a try that failed."""


class Tagged(Protocol):
    """What of :class:`greenroom.registry.registry.Registry` is needed."""

    def set_model_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag of a registered model."""

    def delete_model_tag(self, name: str, key: str) -> None:
        """Delete it."""

    def set_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""

    def delete_version_tag(self, name: str, version: str, key: str) -> None:
        """Delete it."""


def tags_of(alerts: Iterable[Alert]) -> dict[str, str]:
    """Return what the tags should say: by model, a slash and the version, if any.

    Examples
    --------
    >>> labels = {"model": "credit", "version": "3"}
    >>> drift = Alert(name="Drift", severity="warning", labels=labels, summary="", began_at_s=0)
    >>> tags_of([drift])
    {'credit/3': 'Drift'}
    """
    names: dict[str, list[str]] = defaultdict(list)
    for alert in alerts:
        if "model" in alert.labels:
            key = f"{alert.labels['model']}/{alert.labels.get('version', '')}"
            names[key].append(alert.name)
    return {key: ", ".join(dict.fromkeys(found)) for key, found in names.items()}


class MlflowTags:
    """Keeps the tags at what fires.

    Parameters
    ----------
    book : AlertBook
    registry : Tagged
    on_event : callable
        Told in one line when a tag cannot be written.
    clock_s : callable
        Seconds that only go up.
    """

    def __init__(
        self,
        book: AlertBook,
        registry: Tagged,
        *,
        on_event: Callable[[str], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book: Final = book
        self._registry: Final = registry
        self._on_event: Final = on_event
        self._clock_s: Final = clock_s
        self._failed_at_s: float | None = None
        self._told = False

    def round(self) -> None:
        """Write what differs; nothing for a while after a try that failed."""
        if self._failed_at_s is not None and self._clock_s() - self._failed_at_s < PAUSE_S:
            return
        record = self._book.record
        wanted, written = tags_of(record.firing), record.tags
        for key in dict.fromkeys((*written, *wanted)):
            if wanted.get(key) == written.get(key):
                continue
            try:
                self._write(key, wanted.get(key))
            except NotInRegistry:
                pass  # the model or the version is gone, and its tags with it
            except RegistryError as error:
                self._failed_at_s = self._clock_s()
                if not self._told:
                    self._on_event(f"MLflow's tag {TAG} is not what fires: {error}")
                self._told = True
                return
            changed = {**self._book.record.tags, key: wanted.get(key, "")}
            self._book.tagged({one: text for one, text in changed.items() if text})
        self._failed_at_s, self._told = None, False

    def _write(self, key: str, text: str | None) -> None:
        name, _, version = key.rpartition("/")
        if version and text:
            self._registry.set_version_tag(name, version, TAG, text)
        elif version:
            self._registry.delete_version_tag(name, version, TAG)
        elif text:
            self._registry.set_model_tag(name, TAG, text)
        else:
            self._registry.delete_model_tag(name, TAG)
