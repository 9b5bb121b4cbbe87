"""Chromium, driven over the pipes of its DevTools protocol; nothing but this machine is reached.

https://chromedevtools.github.io/devtools-protocol/ says what the messages are.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMANDS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # It would need rights that a container does not give; the page is our own.
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
    "--window-size=1300,2200",
)


class Page:
    """A tab: what it asked for, what went wrong in it, and what its scripts answer."""

    def __init__(self, send: Any, receive: Any) -> None:
        self._send, self._receive = send, receive
        self._numbers = iter(range(1, 1_000_000))
        self._session = ""
        self.requested: list[str] = []
        self.problems: list[str] = []

    def open(self, url: str) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its result; events on the way are noted."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        self._send(message | ({"sessionId": self._session} if self._session else {}))
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer.get("method"), answer.get("params", {}))

    def _note(self, event: str | None, said: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requested.append(said["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(said["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and said["type"] in {"error", "warning", "assert"}:
            self.problems.append(json.dumps(said["args"]))
        elif event == "Log.entryAdded" and said["entry"]["level"] in {"error", "warning"}:
            self.problems.append(json.dumps(said["entry"]))

    def evaluate(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script: str, within_s: float = 60) -> Any:
        """Ask until the answer is true; return it."""
        deadline = time.monotonic() + within_s
        while not (answer := self.evaluate(script)):
            assert time.monotonic() < deadline, f"never: {script}\n{self.problems}"
            time.sleep(0.05)
        return answer

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def page(profile: Path) -> Iterator[Page]:
    """Start a browser with a profile of its own, and give one tab of it."""
    command = next(filter(None, map(shutil.which, COMMANDS)), None)
    assert command, "no Chromium is installed; `make test-browser` installs it"
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    # The browser reads its descriptor 3 and writes its descriptor 4.
    moved = f"import os, sys; os.dup2({theirs_in}, 3); os.dup2({theirs_out}, 4)"
    launched = f"{moved}; os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", launched, command, *OPTIONS, f"--user-data-dir={profile}"],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Page(lambda message: _write(ours_out, message), _Reader(ours_in).message)
    finally:
        os.close(ours_out)  # At the end of its input the browser leaves.
        os.close(ours_in)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _write(descriptor: int, message: dict[str, Any]) -> None:
    os.write(descriptor, json.dumps(message).encode() + b"\0")


class _Reader:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def message(self, within_s: float = 120) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._descriptor], [], [], within_s)
            assert ready, "the browser does not answer"
            part = os.read(self._descriptor, 1 << 16)
            assert part, "the browser is gone"
            self._rest += part
        whole, _, self._rest = self._rest.partition(b"\0")
        return json.loads(whole)
