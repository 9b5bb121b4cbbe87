"""Routing: which model of the committed generation answers at a path.

A prediction's path is looked up in a dict, also in the spelling in which most clients send it. What
a generation holds is :mod:`greenroom.inference.inference`'s business, and every other page
Starlette's to route (:mod:`greenroom.http.site`).
"""

from __future__ import annotations

from collections.abc import Mapping

from greenroom.app import App
from greenroom.errors import NotServing
from greenroom.http.pages import predict_path
from greenroom.http.traffic import CountedSend, Routed, Traffic, route_of
from greenroom.inference.inference import Engine, LoadedGeneration

__all__ = ["Routing"]


class Routing:
    """The paths of one worker's predictions; all methods are for the event loop.

    Parameters
    ----------
    engine : Engine
        What is loaded, and which generation of it is committed.
    traffic : Traffic
        What counts the answers at each path.
    app : App, optional
        Whose models have paths also before anything is loaded.
    """

    def __init__(self, engine: Engine, traffic: Traffic, app: App | None) -> None:
        self._engine = engine
        self._traffic = traffic
        self._generation: LoadedGeneration | None = None
        self._routed: Mapping[str, Routed] = {}
        self._by_url: Mapping[bytes, Routed] = {}
        self._declared = _declared_paths(app)

    def current(self) -> LoadedGeneration:
        """Return what the committed generation answers with, to be read once for a request.

        Raises
        ------
        NotServing
            When this worker has not prepared the generation that is committed.
        """
        generation = self._engine.current()
        # Another value after each swap, and also when a version comes into memory or goes.
        if generation is not self._generation:
            self._generation = generation
            self._routed = self._traffic.routed(generation.number, generation.by_path)
            self._by_url = {path.encode(): routed for path, routed in self._routed.items()}
        return generation

    def at_path(self, path: str, counted: CountedSend) -> Routed | None:
        """Return the model that answers at a decoded path; None when that is no prediction's.

        Raises
        ------
        NotServing
            When it is one, and nothing is loaded yet.
        """
        try:
            self.current()
        except NotServing:
            if path in self._declared:
                counted.under(self._declared[path])
                raise
            return None
        routed = self._routed.get(path)
        if routed is not None:
            counted.under(routed.route, routed.answers)
        return routed

    def at_url(self, url: bytes) -> Routed | None:
        """Return the model whose predictions are asked for at a URL just as it was sent.

        None when that is no prediction's, or is spelled in an unusual way, or nothing is loaded
        there: then the ASGI app knows what to do.
        """
        try:
            self.current()
        except NotServing:
            return None
        routed = self._by_url.get(url)
        return None if routed is None or routed.served.runtime is None else routed


def _declared_paths(app: App | None) -> dict[str, str]:
    """Return where an app's models answer, also before anything is loaded, and their routes."""
    models = app.models if app else ()
    paths = [(m.name, path) for m in models for path in (m.route, predict_path(m.name))]
    return {path: route_of(name, path) for name, path in paths}
