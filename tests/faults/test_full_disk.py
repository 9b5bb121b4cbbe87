"""A log that has no room: the app's policy decides, what is not noted is counted, and it ends.

The server is real; the version it serves is on disk and its registry is a stand-in. Nothing can be
shipped, because a file stands where the log's folder would be, until that is taken away.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

import builders
from app_versions import fitted
from greenroom.log.spool import Balance, Spool
from real_server import deployed, served
from test_logged_server import shipped
from waiting import wait_for

pytestmark = [pytest.mark.faults]

ROWS = [{"a": float(n % 5), "b": 2.0} for n in range(20)]
BODY = json.dumps(ROWS) + " " * 2**20
"""A request is kept as it was received, so that a few dozens of these fill a log."""
MOST_REQUESTS = 200
SETTLED_S = 1.0
"""A full segment is cut to what it holds soon after, which may make room for another."""


@dataclass
class Full:
    """A server without room in its log: what it noted, and how many requests it did not."""

    url: str
    ids: list[str] = field(default_factory=list)
    n_unlogged: int = 0

    def ask(self) -> httpx.Response:
        """Ask, and book the answer."""
        before = self.unlogged("served")
        reply = ask(self.url)
        if reply.status_code == 200 and self.unlogged("served") == before:
            self.ids += [one["prediction_id"] for one in reply.json()["predictions"]]
        else:
            self.n_unlogged += 1
        return reply

    def fill(self) -> None:
        """Ask until there is no room, and none comes of itself."""
        for _ in range(MOST_REQUESTS):
            before = self.n_unlogged
            self.ask()
            if self.n_unlogged > before:
                time.sleep(SETTLED_S)
                self.ask()
            if self.n_unlogged == before + 2:
                return
        pytest.fail("it never had too little room")

    def unlogged(self, verdict: str) -> int:
        """Return how many predictions were not noted, as the metrics say."""
        name = f'greenroom_log_unlogged_predictions_total{{verdict="{verdict}"}}'
        text = httpx.get(f"{self.url}/metrics", timeout=30).text
        found = re.search(rf"^{re.escape(name)} (\S+)", text, re.MULTILINE)
        return int(float(found.group(1))) if found else 0


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Put a file system of 40 MiB below ``folder``; that takes the rights to mount one."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def full_server(folder: Path, policy: str, **changes: object) -> Iterator[Full]:
    """Serve until there is no room in the log."""
    rows = builders.numbers()
    labels = builders.labels(rows)
    fitted(folder / "1", builders.COLUMNS, rows, builders.classifier(rows), labels)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / "log").write_text("in the way")
    settings = {"home": home, "log": True, "log_ship_interval_s": 0.2, "log_when_full": policy}
    with served(deployed(folder / "1"), **settings, **changes) as url:
        full = Full(url)
        full.fill()
        yield full


def ask(url: str) -> httpx.Response:
    headers = {"content-type": "application/json"}
    return httpx.post(f"{url}/predict", content=BODY, headers=headers, timeout=30)


def make_room(home: Path) -> None:
    (home / "log").unlink()


def refuses_counts_and_recovers(folder: Path, **changes: object) -> None:
    home = folder / "home"
    with full_server(folder, "refuse", **changes) as full:
        refused = full.ask()
        assert refused.status_code == 503, refused.text
        assert "prediction log" in refused.text
        assert "/" not in refused.json()["error"]["message"]
        assert full.unlogged("refused") == full.n_unlogged * len(ROWS)
        assert full.unlogged("served") == 0
        n_noted = len(full.ids)
        assert Spool(home / "spool").balance() == Balance(n_noted, 0, n_noted)
        make_room(home)
        wait_for(lambda: full.ask().status_code == 200, "it goes on", within_s=90)
        everything_is_shipped_once(home, full)


def everything_is_shipped_once(home: Path, full: Full) -> None:
    spool = Spool(home / "spool")
    wait_for(lambda: not spool.balance().waiting, "everything is shipped", within_s=120)
    found = [row["prediction_id"] for row in shipped(home)]
    assert sorted(found) == sorted(full.ids)
    assert spool.balance() == Balance(len(found), len(found), 0)


def test_a_log_that_may_take_no_more_refuses_counts_and_goes_on_when_it_is_shipped(tmp_path):
    refuses_counts_and_recovers(tmp_path, log_max_bytes=2**26)


def test_a_disk_that_is_full_refuses_counts_and_goes_on_when_it_is_shipped(tmp_path):
    with small_disk(tmp_path / "home" / "spool"):
        refuses_counts_and_recovers(tmp_path)


def test_where_the_app_says_so_a_full_log_serves_on_and_what_is_not_noted_is_counted(tmp_path):
    home = tmp_path / "home"
    with full_server(tmp_path, "serve", log_max_bytes=2**26) as full:
        assert full.ask().status_code == 200
        assert full.unlogged("served") == full.n_unlogged * len(ROWS)
        assert full.unlogged("refused") == 0
        n_noted = len(full.ids)
        assert Spool(home / "spool").balance() == Balance(n_noted, 0, n_noted)
        make_room(home)

        def noted_again() -> bool:
            assert full.ask().status_code == 200
            return len(full.ids) > n_noted

        wait_for(noted_again, "it notes again", within_s=90)
        everything_is_shipped_once(home, full)
