"""The outbox: shipped segments that hold predictions for MLflow, until MLflow has them.

A folder beside the slots of a spool::

    outbox/1795262400000000-01-000000000006-250.sealed
                        a segment: when it was begun, its slot and its number there, and how many
                        predictions for MLflow it holds
    outbox/state.json   how far it is sent, and what is being sent

A segment that the tables have is moved here by its shipper, in one step, so it is in one of the two
places. The state is replaced as a whole: whoever is killed goes on from the last one, and repeats
the parcel that was on its way, down to its steps. Sending is :mod:`greenroom.log.mlflow_sending`'s
business; one process sends, the one that holds the shipper's lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from greenroom.errors import SpoolCorrupt
from greenroom.log.log_records import Answers, Record, Version
from greenroom.log.minute_summary import Summary
from greenroom.log.segments import SEALED, Segment, sync_folder
from greenroom.log.spool import Spool

__all__ = ["Item", "Outbox", "OutboxBalance", "Parcel", "Piece", "RunKey", "RunState", "State"]

FORMAT: Final = 1
OUTBOX_FOLDER: Final = "outbox"
_STATE: Final = "state.json"
_LOCK: Final = "outbox.lock"
_KEPT_RUNS: Final = 500
"""So many runs are remembered; one is added for each version and day."""

Kind: TypeAlias = Literal["each", "batch", "summary"]


class RunKey(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Whose predictions a run holds: those of one version on one day (UTC).

    Attributes
    ----------
    day : str
        Such as ``2026-11-21``.
    model, name : str
        What the model is called on the server, and in the registry.
    version : str
    """

    day: str
    model: str
    name: str
    version: str

    @property
    def text(self) -> str:
        """The key in one line, as the state and a run's tag have it."""
        return msgspec.json.encode(self).decode()


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Some predictions of a key in one segment, by their place among those of the key there."""

    item: str
    start: int
    end: int


class Parcel(msgspec.Struct, frozen=True):
    """What is sent to MLflow at once; the same again when it is repeated.

    Attributes
    ----------
    key : RunKey
    kind : {"each", "batch", "summary"}
    first : int
        The step of its first prediction, the number of the batch, or that of its first summary.
    pieces : tuple of Piece
    summaries : tuple of Summary
        In place of predictions, where it is of that kind.
    """

    key: RunKey
    kind: Kind
    first: int
    pieces: tuple[Piece, ...] = ()
    summaries: tuple[Summary, ...] = ()


class RunState(msgspec.Struct):
    """A run, and how many of each kind it has."""

    key: RunKey
    run_id: str = ""
    artifact_uri: str = ""
    each: int = 0
    batch: int = 0
    summary: int = 0
    ended: bool = False


class State(msgspec.Struct):
    """How far the outbox is sent.

    Attributes
    ----------
    runs : dict
        By :attr:`RunKey.text`.
    done : dict
        How many predictions of a key are dealt with, by item and key.
    parcel : Parcel or None
        What is being sent.
    summaries : list
        Summaries that wait, each with the run that it belongs to.
    n_parcels, n_sent, n_summarised, n_overflowed : int
        Ever since the spool was made: how often MLflow got something, how many predictions it has,
        and how many were summarised: because their app says so, or as more than MLflow could take.
    """

    format: int = FORMAT
    runs: dict[str, RunState] = {}
    done: dict[str, dict[str, int]] = {}
    parcel: Parcel | None = None
    summaries: list[tuple[RunKey, Summary]] = []
    n_parcels: int = 0
    n_sent: int = 0
    n_summarised: int = 0
    n_overflowed: int = 0

    def run(self, key: RunKey) -> RunState:
        """Return what is known of a key's run."""
        return self.runs.setdefault(key.text, RunState(key))

    def done_of(self, item: str, key: RunKey) -> int:
        """Return how many predictions of a key in an item are dealt with, or are being sent."""
        done = self.done.get(item, {}).get(key.text, 0)
        if self.parcel is not None and self.parcel.key == key:
            done = max([done, *(one.end for one in self.parcel.pieces if one.item == item)])
        return done

    def n_done(self, item: str) -> int:
        """Return how many predictions of an item are dealt with."""
        total = sum(self.done.get(item, {}).values())
        if self.parcel is not None:
            # What came after them may have been summarised meanwhile.
            done = self.done.get(item, {}).get(self.parcel.key.text, 0)
            sent = [one for one in self.parcel.pieces if one.item == item and one.end <= done]
            total -= sum(one.end - one.start for one in sent)
        return total

    def finish(self, key: RunKey, pieces: Iterable[Piece]) -> int:
        """Note that pieces are dealt with; return how many predictions they hold."""
        total = 0
        for piece in pieces:
            done = self.done.setdefault(piece.item, {})
            done[key.text] = max(done.get(key.text, 0), piece.end)
            total += piece.end - piece.start
        return total


class Item(NamedTuple):
    """A segment in the outbox, and how many predictions for MLflow it holds."""

    path: Path
    n_rows: int

    @property
    def name(self) -> str:
        """What the state calls it."""
        return self.path.name


class OutboxBalance(NamedTuple):
    """Where the predictions for MLflow are, of those that were shipped.

    Parameters
    ----------
    n_parcels : int
        How often MLflow was given something.
    n_sent, n_waiting : int
        How many predictions MLflow has, and how many wait.
    n_summarised, n_overflowed : int
        How many went into summaries because their app says so, and because they were more than
        MLflow could take.
    """

    n_parcels: int
    n_sent: int
    n_waiting: int
    n_summarised: int
    n_overflowed: int

    @property
    def n_taken(self) -> int:
        """How many there are in all."""
        return self.n_sent + self.n_waiting + self.n_summarised + self.n_overflowed


class Outbox:
    """The outbox of a spool.

    Parameters
    ----------
    spool : Spool
    """

    def __init__(self, spool: Spool) -> None:
        self.spool_id: Final = spool.id.hex
        self.folder: Final = spool.folder / OUTBOX_FOLDER
        self._lock: Final = spool.folder / _LOCK

    def take(self, segment: Segment, n_rows: int) -> None:
        """Move a shipped segment here that holds so many predictions for MLflow."""
        self.folder.mkdir(exist_ok=True, mode=0o700)
        head = segment.head
        number = f"{head.began_at_us:016d}-{head.slot:02d}-{head.sequence:012d}"
        name = f"{number}-{n_rows}{SEALED}"
        segment.path.rename(self.folder / name)
        sync_folder(self.folder)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until nobody else sends or changes what is here, and keep others waiting inside."""
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def items(self) -> list[Item]:
        """Return what waits, in the order in which it was begun."""
        return [Item(path, int(path.stem.rpartition("-")[2])) for path in sorted(self._paths())]

    def state(self) -> State:
        """Return how far it is sent.

        Raises
        ------
        SpoolCorrupt
            When the state cannot be read, or is of a later format.
        """
        path = self.folder / _STATE
        try:
            state = msgspec.json.decode(path.read_bytes(), type=State)
        except FileNotFoundError:
            return State()
        except msgspec.DecodeError as error:
            raise SpoolCorrupt(f"{path} cannot be read: {error}") from error
        if state.format > FORMAT:
            raise SpoolCorrupt(
                f"{path} has format {state.format}, this Greenroom knows {FORMAT}",
                advice="upgrade greenroom",
            )
        return state

    def save(self, state: State) -> None:
        """Replace the state, for good; what it says nothing of any more is forgotten."""
        names = {path.name for path in self._paths()}
        state.done = {name: done for name, done in state.done.items() if name in names}
        if len(state.runs) > _KEPT_RUNS:
            newest = sorted(state.runs.values(), key=lambda run: run.key)[-_KEPT_RUNS:]
            state.runs = {run.key.text: run for run in newest}
        fresh = self.folder / f"{_STATE}.new"
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(state))
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self.folder / _STATE)
        sync_folder(self.folder)

    def remove_done(self, state: State) -> None:
        """Remove the segments that a saved state has dealt with."""
        held = {piece.item for piece in state.parcel.pieces} if state.parcel else set()
        for item in self.items():
            if item.name not in held and state.n_done(item.name) >= item.n_rows:
                item.path.unlink(missing_ok=True)

    def balance(self) -> OutboxBalance:
        """Return where the predictions are that were shipped and are for MLflow."""
        state = self.state()
        waiting = sum(item.n_rows - state.n_done(item.name) for item in self.items())
        return OutboxBalance(
            state.n_parcels, state.n_sent, waiting, state.n_summarised, state.n_overflowed
        )

    @property
    def empty(self) -> bool:
        """Whether nothing waits here, and nothing ever did."""
        return not self.folder.exists()

    def _paths(self) -> list[Path]:
        with suppress(FileNotFoundError):
            return [path for path in self.folder.iterdir() if path.suffix == SEALED]
        return []


def n_for_mlflow(records: Iterable[Record]) -> int:
    """Count the predictions of a segment that are to go to MLflow."""
    going, total = set(), 0
    for record in records:
        if isinstance(record, Version) and record.to_mlflow:
            going.add(record.number)
        elif isinstance(record, Answers) and record.version in going:
            total += sum(len(request.ids) for request in record.requests)
    return total
