"""A stand-in for MLflow's REST server: experiments, runs, metrics, and files behind its proxy.

Like the real one's SQL store it takes run, name, step, time and value for a metric's identity.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

FILES = "/api/2.0/mlflow-artifacts/artifacts/"


class FakeMlflow:
    """What the server has, and how it behaves.

    Attributes
    ----------
    away : bool
        Whether it answers 503.
    read_only : bool
        Whether files cannot be written.
    swallows : int
        How many writes it carries out from now on without saying so.
    """

    def __init__(self) -> None:
        self.uri = ""
        self.away = False
        self.swallows = 0
        self.read_only = False
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.metrics: dict[str, list[tuple[str, int, int, float]]] = {}
        self.params: dict[str, dict[str, str]] = {}
        self.files: dict[str, bytes] = {}
        self.n_batches = 0
        self.largest = 0

    def run(self, name: str) -> str:
        """The id of the only run of a name."""
        (found,) = (one for one, run in self.runs.items() if run["info"]["run_name"] == name)
        return found

    def points(self, name: str, metric: str) -> list[tuple[int, int, float]]:
        """(step, at_ms, value) of a metric, by step."""
        points = self.metrics[self.run(name)]
        return sorted((step, at, value) for key, step, at, value in points if key == metric)

    def answer(self, method: str, path: str, query: dict[str, Any], body: Any) -> tuple[int, Any]:
        if path.startswith(FILES) and method == "PUT":
            if self.read_only:
                return 403, {"error_code": "PERMISSION_DENIED", "message": "no"}
            self.files[path.removeprefix(FILES)] = body
            return 200, {}
        if path.startswith(FILES):
            content = self.files.get(path.removeprefix(FILES))
            return (
                (404, {"error_code": "RESOURCE_DOES_NOT_EXIST"})
                if content is None
                else (200, content)
            )
        if path == FILES.rstrip("/"):
            root = query["path"] + "/"
            names = [name.removeprefix(root) for name in self.files if name.startswith(root)]
            return 200, {"files": [{"path": name, "file_size": 1} for name in sorted(names)]}
        name = path.removeprefix("/api/2.0/mlflow/").replace("/", "_").replace("-", "_")
        return getattr(self, name)(**query, **(json.loads(body) if body else {}))

    def experiments_get_by_name(self, experiment_name):
        if experiment_name not in self.experiments:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}
        return 200, {"experiment": self.experiments[experiment_name]}

    def experiments_create(self, name):
        number = str(len(self.experiments) + 1)
        self.experiments[name] = {"experiment_id": number, "lifecycle_stage": "active"}
        return 200, {"experiment_id": number}

    def experiments_search(self, **_):
        return 200, {"experiments": list(self.experiments.values())}

    def runs_search(self, experiment_ids, filter, max_results, order_by=("",), **more):  # noqa: A002 - its name
        everything = more["run_view_type"] == "ALL"
        tag, value = filter.removeprefix("tags.").split(" = ")
        wanted = {"key": tag.strip("`"), "value": value.strip("'")}
        found = [
            run
            for run in self.runs.values()
            if wanted in run["data"]["tags"]
            and run["info"]["experiment_id"] in experiment_ids
            and (everything or run["info"]["lifecycle_stage"] == "active")
        ]
        found.sort(key=lambda run: run["info"]["start_time"], reverse=order_by[0].endswith("DESC"))
        chosen = [self._with_metrics(run) for run in found[:max_results]]
        return 200, {"runs": chosen} if found else {}

    def _with_metrics(self, run):
        """A run as searches give it: of each metric the point of the highest step."""
        last = {}
        for key, step, at, value in sorted(self.metrics[run["info"]["run_id"]]):
            last[key] = {"key": key, "step": step, "timestamp": at, "value": value}
        return {**run, "data": {**run["data"], "metrics": list(last.values())}}

    def runs_create(self, experiment_id, run_name, start_time, tags):
        run_id = f"run{len(self.runs) + 1}"
        info = {
            "run_id": run_id,
            "run_name": run_name,
            "experiment_id": experiment_id,
            "start_time": start_time,
            "artifact_uri": f"mlflow-artifacts:/{experiment_id}/{run_id}/artifacts",
            "lifecycle_stage": "active",
            "status": "RUNNING",
        }
        self.runs[run_id] = {"info": info, "data": {"tags": tags}}
        self.metrics[run_id] = []
        return 200, {"run": self.runs[run_id]}

    def runs_get(self, run_id):
        if run_id not in self.runs:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}
        return 200, {"run": self.runs[run_id]}

    def runs_update(self, run_id, **changes):
        self.runs[run_id]["info"].update(changes)
        return 200, {}

    def tags(self, name: str) -> dict[str, str]:
        """The tags of the only run of a name."""
        return {tag["key"]: tag["value"] for tag in self.runs[self.run(name)]["data"]["tags"]}

    def runs_log_batch(self, run_id, metrics, params=(), tags=()):
        if self.runs[run_id]["info"]["lifecycle_stage"] != "active":
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "must be active"}
        self.n_batches += 1
        self.largest = max(self.largest, len(metrics) + len(params))
        self.params.setdefault(run_id, {}).update({one["key"]: one["value"] for one in params})
        named = {tag["key"]: tag for tag in [*self.runs[run_id]["data"]["tags"], *tags]}
        self.runs[run_id]["data"]["tags"] = list(named.values())
        kept = self.metrics[run_id]
        for one in metrics:
            point = (one["key"], one["step"], one["timestamp"], one["value"])
            if point not in kept:
                kept.append(point)
        return 200, {}


@contextmanager
def fake_mlflow() -> Iterator[FakeMlflow]:
    """Serve one."""
    fake = FakeMlflow()

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = 503, {}
            if not fake.away:
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                status, answer = fake.answer(self.command, parts.path, query, body)
                if self.command != "GET" and fake.swallows:
                    fake.swallows -= 1
                    status, answer = 504, {}
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.respond()

        def do_POST(self) -> None:
            self.respond()

        def do_PUT(self) -> None:
            self.respond()

        def log_message(self, *args: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.uri = f"http://127.0.0.1:{listening.server_port}"
    try:
        yield fake
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
