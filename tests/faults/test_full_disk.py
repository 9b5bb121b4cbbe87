"""A log that has no room: the app's policy decides, what is not noted is counted, and it ends.

The server is real; the version it serves is on disk and its registry is a stand-in. Nothing can be
shipped, because a file stands where the log's folder would be, until that is taken away.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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
def full_server(folder: Path, policy: str, **changes: object) -> Iterator[tuple[str, list[str]]]:
    """Serve until there is no room in the log; gives the address and the ids that were answered."""
    rows = builders.numbers()
    labels = builders.labels(rows)
    fitted(folder / "1", builders.COLUMNS, rows, builders.classifier(rows), labels)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / "log").write_text("in the way")
    settings = {"home": home, "log": True, "log_ship_interval_s": 0.2, "log_when_full": policy}
    with served(deployed(folder / "1"), **settings, **changes) as url:
        ids: list[str] = []
        for _ in range(MOST_REQUESTS):
            reply = ask(url)
            if reply.status_code != 200 or unlogged(url, "served"):
                break
            ids += [one["prediction_id"] for one in reply.json()["predictions"]]
        else:
            pytest.fail("it never had too little room")
        yield url, ids


def unlogged(url: str, verdict: str) -> int:
    """Return how many predictions were not noted, as the metrics say."""
    name = f'greenroom_log_unlogged_predictions_total{{verdict="{verdict}"}}'
    found = re.search(rf"^{re.escape(name)} (\S+)", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    return int(float(found.group(1))) if found else 0


def ask(url: str) -> httpx.Response:
    headers = {"content-type": "application/json"}
    return httpx.post(f"{url}/predict", content=BODY, headers=headers, timeout=30)


def make_room(home: Path) -> None:
    (home / "log").unlink()


def refuses_counts_and_recovers(folder: Path, **changes: object) -> None:
    home = folder / "home"
    with full_server(folder, "refuse", **changes) as (url, ids):
        refused = ask(url)
        assert refused.status_code == 503, refused.text
        assert "prediction log" in refused.text
        assert "/" not in refused.json()["error"]["message"]
        assert unlogged(url, "refused") == 2 * len(ROWS)
        assert unlogged(url, "served") == 0
        assert Spool(home / "spool").balance() == Balance(len(ids), 0, len(ids))
        make_room(home)
        wait_for(lambda: ask(url).status_code == 200, "it goes on", within_s=90)
    balance = Spool(home / "spool").balance()
    found = [row["prediction_id"] for row in shipped(home)]
    assert len(found) == len(set(found)) == len(ids) + len(ROWS)
    assert set(ids) <= set(found)
    assert balance == Balance(len(found), len(found), 0)


def test_a_log_that_may_take_no_more_refuses_counts_and_goes_on_when_it_is_shipped(tmp_path):
    refuses_counts_and_recovers(tmp_path, log_max_bytes=2**26)


def test_a_disk_that_is_full_refuses_counts_and_goes_on_when_it_is_shipped(tmp_path):
    with small_disk(tmp_path / "home" / "spool"):
        refuses_counts_and_recovers(tmp_path)


def test_where_the_app_says_so_a_full_log_serves_on_and_what_is_not_noted_is_counted(tmp_path):
    home = tmp_path / "home"
    with full_server(tmp_path, "serve", log_max_bytes=2**26) as (url, ids):
        assert unlogged(url, "served") == len(ROWS)
        assert ask(url).status_code == 200
        assert unlogged(url, "served") == 2 * len(ROWS)
        assert unlogged(url, "refused") == 0
        assert Spool(home / "spool").balance() == Balance(len(ids), 0, len(ids))
        make_room(home)

        def noted_again() -> bool:
            before = unlogged(url, "served")
            assert ask(url).status_code == 200
            return unlogged(url, "served") == before

        wait_for(noted_again, "it notes again", within_s=90)
    found = [row["prediction_id"] for row in shipped(home)]
    assert len(found) == len(set(found)) == len(ids) + len(ROWS)
    assert set(ids) <= set(found)
