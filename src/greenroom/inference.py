"""Inference: the versions that one worker holds in memory, and the whole way from body to reply.

A generation is prepared as a whole, beside those before it, and proved: every version has answered
its example the way a request is answered. Which generation answers is one number that all workers
share, read once for each request. What a version that is served already needs is not loaded again.

There is no HTTP here, and nothing is decided about what is to be served: that is
:mod:`greenroom.serving`'s and :mod:`greenroom.following`'s business. An engine that may not hold
all versions at once is :mod:`greenroom.residency`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from greenroom.errors import (
    GreenroomError,
    NotServing,
    RequestError,
    VersionError,
    VersionUnloadable,
)
from greenroom.examples import example_request
from greenroom.generation import Deployment, Generation
from greenroom.memory import Recency
from greenroom.prediction_id import new_prediction_ids
from greenroom.predictions import Predictions
from greenroom.reply import ReplyType
from greenroom.request import RequestType, Rows
from greenroom.rows import RowSource
from greenroom.runtime import Runtime, load_runtime
from greenroom.schema import Schema
from greenroom.task import TASKS
from greenroom.timestamps import timestamp_now

__all__ = ["Engine", "FirstUse", "LoadedGeneration", "ServedModel"]

QUICK_S: Final = 0.002
"""How long all other requests may wait for a graph that is called in the event loop; a thread would
take about a tenth of that to wake up."""

MAX_QUICK_ROWS: Final = 256
MEASURED_ROWS: Final = 32

Load: TypeAlias = Callable[[Path, Schema | None, Path | None], Runtime]
OnLoad: TypeAlias = Callable[[Deployment, float], None]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model of a generation, and how its requests are answered.

    :meth:`decode`, :meth:`predict` and :meth:`encode` are the three steps of :meth:`answer`, so
    that a server can put the second one elsewhere. All may be called from several threads.

    Parameters
    ----------
    deployment : Deployment
        What is served under the route, or why nothing is.
    runtime : Runtime, optional
        What answers; None, like the two types, when nothing is served, or the version is not in
        memory.
    request_type : RequestType, optional
        What a body is read with.
    reply_type : ReplyType, optional
        What a reply is written with.
    quick_rows : int, optional
        How many rows it answers in :data:`QUICK_S`; 0 for one that is not to be called in the
        event loop at all.
    recency : Recency, optional
        Kept up to date where a version can be put out of memory.
    """

    deployment: Deployment
    runtime: Runtime | None = None
    request_type: RequestType | None = None
    reply_type: ReplyType | None = None
    quick_rows: int = 0
    recency: Recency | None = None

    @property
    def awaits_load(self) -> bool:
        """Whether there is a version to answer that has to be loaded first."""
        return self.runtime is None and self.deployment.serving is not None

    def answer(self, body: bytes) -> bytes:
        """Answer the JSON body of a request with the JSON body of a reply.

        Raises
        ------
        NotServing
            When nothing is served, with the reason and what to do about it.
        RequestMalformed, RequestInvalid
            When the body cannot be answered as it is.
        """
        began_s = time.perf_counter()
        rows = self.decode(body)
        return self.encode(rows, self.predict(rows), began_s)

    def decode(self, body: bytes) -> Rows:
        """Read the rows of a request."""
        if self.request_type is None:
            raise self._not_serving()
        return self.request_type.decode(body)

    def predict(self, rows: RowSource) -> Predictions:
        """Have the runtime answer, the shortest way that it takes.

        Raises
        ------
        VersionUnloadable
            When it answers more or fewer rows than there are: then it cannot be said whose they
            are. What the estimator itself raises is passed on as it is.
        """
        runtime = self.runtime
        if runtime is None:
            raise self._not_serving()
        if self.recency is not None:
            self.recency.at_s = time.monotonic()
        if runtime.accepts_matrix:
            predictions = runtime.predict_matrix(rows.matrix())
        else:
            predictions = runtime.predict(rows.columns())
        if len(predictions) != rows.n_rows and not runtime.expands:
            raise VersionUnloadable(
                f"{self.deployment.name} answered {rows.n_rows} rows with {len(predictions)}",
                model=self.deployment.model,
            )
        return predictions

    @property
    def batches(self) -> bool:
        """Whether rows of several requests may be predicted in one call."""
        return self.runtime is not None and not self.runtime.expands

    def batch_key(self, rows: RowSource) -> Hashable:
        """Return what requests must have in common to be predicted in one call.

        Of a matrix all cells are float64 whatever is missing; the types of columns may differ.
        """
        return () if self.runtime is None or self.runtime.accepts_matrix else rows.gaps()

    def encode(self, rows: Rows, predictions: Predictions, began_s: float) -> bytes:
        """Write the reply; ``began_s`` is what ``time.perf_counter()`` said at the beginning."""
        return self.encode_each([(rows, began_s)], predictions)[0]

    def encode_each(
        self, asked: Sequence[tuple[Rows, float]], predictions: Predictions
    ) -> list[bytes]:
        """Write the replies to requests whose rows were predicted in one call, in their order.

        Parameters
        ----------
        asked : sequence of (Rows, float)
            The requests, and when each began.
        predictions : Predictions
            For all their rows.
        """
        reply_type, runtime = self.reply_type, self.runtime
        if reply_type is None or runtime is None:
            raise self._not_serving()
        cells = reply_type.cells(predictions)
        n_answers = len(predictions)
        ids, timestamp, now_s = new_prediction_ids(n_answers), timestamp_now(), time.perf_counter()
        replies, first = [], 0
        for rows, began_s in asked:
            took_ms = (now_s - began_s) * 1_000
            if rows.single and not runtime.expands:
                reply = reply_type.encode_row(cells, first, ids[first], timestamp, took_ms)
                first += 1
            else:
                end = n_answers if runtime.expands else first + rows.n_rows
                own = ids[first:end]
                reply = reply_type.encode_list(cells, first, end, own, timestamp, took_ms)
                first = end
            replies.append(reply)
        return replies

    def _not_serving(self) -> NotServing:
        return NotServing(
            self.deployment.reason or f"{self.deployment.name} is not served at the moment",
            advice=self.deployment.advice,
        )


FirstUse: TypeAlias = Callable[[ServedModel], Awaitable[ServedModel]]
"""Takes a model that may not be in memory and returns it in memory."""


@dataclass(frozen=True, slots=True)
class LoadedGeneration:
    """A generation in memory: what answers by route, and by all else that a request may name.

    Attributes
    ----------
    by_name : mapping of str to ServedModel
        By what a model is called on this server.
    by_path : mapping of str to ServedModel
        By the paths where its predictions are.
    """

    number: int
    models: Mapping[str, ServedModel]
    by_name: Mapping[str, ServedModel] = field(init=False)
    by_path: Mapping[str, ServedModel] = field(init=False)

    def __post_init__(self) -> None:
        served = self.models.values()
        object.__setattr__(self, "by_name", {one.deployment.model: one for one in served})
        by_path = {path: one for one in served for path in one.deployment.paths}
        object.__setattr__(self, "by_path", by_path)


class Engine:
    """The generations that one worker holds.

    A request calls :meth:`current` once and goes on with what it got: nothing that happens later
    takes it away.

    Parameters
    ----------
    committed : callable
        Returns the number of the generation that all workers answer from.
    load : callable
        ``directory, declared columns, where what was compiled of it is -> Runtime``.
    on_load : callable, optional
        Told of each version that was loaded and warmed, and how many seconds it took; called in
        the thread that prepares.
    """

    def __init__(
        self,
        committed: Callable[[], int],
        load: Load = load_runtime,
        on_load: OnLoad = lambda *_: None,
    ) -> None:
        self._committed = committed
        self._load = load
        self._on_load = on_load
        # Never changed in place: a request may be reading it.
        self._generations: Mapping[int, LoadedGeneration] = {}
        self._preparing = threading.Lock()
        self._changing = threading.Lock()

    def current(self) -> LoadedGeneration:
        """Return the generation that answers now; takes no lock.

        Raises
        ------
        NotServing
            When this worker has not prepared the generation that is committed.
        """
        number = self._committed()
        found = self._generations.get(number)
        if found is None:
            # Another one may have been committed, and this one dropped, between the two lines.
            number = self._committed()
            found = self._generations.get(number)
        if found is not None:
            return found
        if number == 0:
            raise NotServing("the server is starting", advice="/ready says when it answers")
        raise NotServing(
            f"generation {number} is committed, and this worker has not prepared it",
            advice="send the request again",
        )

    def prepare(self, generation: Generation) -> None:
        """Load and warm whatever ``generation`` has that is not loaded yet; for a thread.

        Either all of it is there afterwards, or nothing new.

        Raises
        ------
        VersionError
            When a version does not load or does not answer; its ``model`` says which it is of.
        """
        with self._preparing:
            loaded = self._loaded()
            models = {}
            for deployment in generation.deployments:
                served = self._prepared(deployment, loaded)
                models[deployment.route] = served
                if served.runtime is not None:
                    loaded[deployment.files] = served
            prepared = LoadedGeneration(generation.number, models)
            with self._changing:
                self._generations = {**self._generations, generation.number: prepared}

    def keep(self, number: int) -> None:
        """Drop every generation but this one; requests that hold another finish with it."""
        with self._changing:
            self._generations = {
                held: generation for held, generation in self._generations.items() if held == number
            }

    def runtimes(self, number: int) -> dict[str, str]:
        """Return by model which runtime answers in a generation, where one is loaded."""
        generation = self._generations.get(number)
        models = generation.models.values() if generation is not None else ()
        return {
            served.deployment.model: served.runtime.kind
            for served in models
            if served.runtime is not None
        }

    def _prepared(
        self, deployment: Deployment, loaded: Mapping[tuple[str, str], ServedModel]
    ) -> ServedModel:
        """Return what a generation has for a deployment; ``loaded`` is in memory already."""
        return self._served(deployment, loaded.get(deployment.files))

    def _served(self, deployment: Deployment, known: ServedModel | None) -> ServedModel:
        """Return what answers a deployment's requests; ``known`` is one with the same files."""
        if deployment.serving is None:
            return ServedModel(deployment)
        if known is not None and known.deployment.answers_as == deployment.answers_as:
            return replace(known, deployment=deployment)
        if known is not None:
            served = _proved(deployment, known.runtime, self._load)
            return replace(served, recency=known.recency)
        began_s = time.perf_counter()
        served = _proved(deployment, None, self._load)
        self._on_load(deployment, time.perf_counter() - began_s)
        return served

    def _loaded(self) -> dict[tuple[str, str], ServedModel]:
        """Return what is in memory by its directories, which the model store names by digest."""
        return {
            served.deployment.files: served
            for generation in self._generations.values()
            for served in generation.models.values()
            if served.runtime is not None
        }


def _proved(deployment: Deployment, runtime: Runtime | None, load: Load) -> ServedModel:
    """Return what answers a deployment's requests, having answered one."""
    try:
        if runtime is None:
            declared = Schema(deployment.declared) if deployment.declared else None
            compiled = Path(deployment.compiled) if deployment.compiled else None
            runtime = load(Path(deployment.directory), declared, compiled)
            runtime.warm()
        served = _compiled(deployment, runtime)
        example = example_request(runtime.schema, runtime.example_values)
        body = msgspec.json.encode(example)
        served.answer(body)
        served = replace(served, quick_rows=_quick_rows(served, body))
    except VersionError as error:
        raise type(error)(error.message, model=deployment.model, advice=error.advice) from error
    except RequestError as error:
        raise VersionUnloadable(
            f"its example does not fit its columns: {error.message}", model=deployment.model
        ) from error
    except GreenroomError as error:
        raise VersionUnloadable(
            error.message, model=deployment.model, advice=error.advice
        ) from error
    except Exception as error:
        # Loading runs code of any package, which may raise anything.
        raise VersionUnloadable(
            f"it does not load: {type(error).__name__}: {error}", model=deployment.model
        ) from error
    return served


def _quick_rows(served: ServedModel, body: bytes) -> int:
    """Measure how many rows are answered within :data:`QUICK_S`.

    Only of a graph: it answers in the same time always. Not where a request expands: how many rows
    come of it is not known beforehand.
    """
    runtime = served.runtime
    if runtime is None or runtime.kind != "compiled" or runtime.expands:
        return 0
    rows = Rows.joined([served.decode(body)] * MEASURED_ROWS)
    took_s = []
    for _ in range(5):
        began_s = time.perf_counter()
        served.predict(rows)
        took_s.append(time.perf_counter() - began_s)
    # The fastest, because whatever else the machine does can only make it slower.
    return min(MAX_QUICK_ROWS, int(MEASURED_ROWS * QUICK_S / min(took_s)))


def _compiled(deployment: Deployment, runtime: Runtime) -> ServedModel:
    """Compile what reads requests and what writes replies."""
    serving = deployment.serving
    constants = {
        "model_name": deployment.name,
        "model_version": serving.version if serving is not None else "",
        "model_stage": serving.stage if serving is not None else "",
    }
    reply_type = ReplyType.compile(
        # All of the task's outputs: a field that asks for one that is not given is null.
        TASKS[runtime.task.name],
        runtime.classes,
        runtime.manifest.reply if runtime.manifest is not None else {},
        constants,
    )
    return ServedModel(deployment, runtime, RequestType.compile(runtime.schema), reply_type)
