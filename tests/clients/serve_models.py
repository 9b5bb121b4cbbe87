"""Serves models of every kind with real worker processes, for clients that are tests.

Called as ``python serve_models.py FOLDER`` with Greenroom's environment. When all is ready it
prints one line of JSON: the address, and for each model columns of rows and what the estimator
itself answers for them. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import builders
from fake_server import FakeFollower, FakePoll, serving
from greenroom.compiler.compiled import compile_version
from greenroom.data.examples import typical_values
from greenroom.data.frames import to_frame
from greenroom.evaluation.predictions import Predictions
from greenroom.inference.generation import Deployment
from greenroom.schema import Column, Schema
from greenroom.supervision.worker_process import COMMAND
from greenroom.task import TASKS

N_ROWS = 40
NUMBERS = (Column("a", minimum=-10, maximum=10), Column("b", "integer", minimum=0, maximum=9))
MIXED = (
    Column("a"),
    Column("code", "string"),
    Column("level", "category", categories=("low", "high")),
    Column("income", nullable=True),
    Column("owner", "boolean"),
)


class SeveralModels(FakeFollower):
    """Selects one version of each model."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.deployments: tuple[Deployment, ...] = ()

    def restore(self) -> tuple[Deployment, ...]:
        return self.deployments

    def poll(self, *, force: bool = False) -> FakePoll:
        return FakePoll(self.deployments, self.registry)

    def accepted(self, deployments: tuple[Deployment, ...]) -> None:
        pass


class Interval:
    """A forecast's estimator: the value and both ends of its interval."""

    def fit(self, X: Any, y: Any) -> Interval:
        self.inner_ = LinearRegression().fit(X, y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        value = self.inner_.predict(X)
        return np.stack([value, value - 1, value + 1], axis=1)


def mixed_rows() -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    income = random.normal(50_000, 9_000, N_ROWS)
    income[::5] = np.nan
    return {
        "a": random.normal(size=N_ROWS),
        "code": np.array(random.choice(["001", "1", "ä ö"], N_ROWS), dtype=object),
        "level": np.array(random.choice(["low", "high"], N_ROWS), dtype=object),
        "income": income,
        "owner": random.integers(0, 2, N_ROWS).astype(np.float64),
    }


def mixed_estimator(rows: dict[str, np.ndarray]) -> Any:
    from sklearn.impute import SimpleImputer

    columns = ColumnTransformer(
        [
            ("texts", OneHotEncoder(), ["code", "level"]),
            ("numbers", SimpleImputer(), ["a", "income", "owner"]),
        ]
    )
    labels = np.where(rows["a"] > 0, "good", np.where(rows["owner"] > 0, "bad", "unclear"))
    return make_pipeline(columns, LogisticRegression(max_iter=5_000)).fit(to_frame(rows), labels)


def models() -> dict[str, tuple[str, tuple[Column, ...], dict[str, np.ndarray], Any]]:
    """By name: the task, the columns, the rows and the estimator."""
    numbers = builders.numbers(N_ROWS)
    frame, labels = to_frame(numbers), builders.labels(numbers)
    mixed = mixed_rows()
    forest = RandomForestClassifier(n_estimators=5, random_state=0).fit(frame, labels)
    return {
        "native": ("classification", NUMBERS, numbers, builders.classifier(numbers)),
        "compiled": ("classification", NUMBERS, numbers, forest),
        "mixed": ("classification", MIXED, mixed, mixed_estimator(mixed)),
        "price": ("regression", NUMBERS, numbers, LinearRegression().fit(frame, numbers["a"] * 3)),
        "odd": ("anomaly", NUMBERS, numbers, IsolationForest(n_estimators=5).fit(frame)),
        "demand": ("forecast", NUMBERS, numbers, Interval().fit(frame, numbers["a"])),
    }


def write(follower: SeveralModels) -> dict[str, Any]:
    """Write a version of each model and select it; return rows and answers by model."""
    answers = {}
    for name, (task, columns, rows, estimator) in models().items():
        made = follower.version(f"3 of {name}")
        folder = builders.version(
            Path(made.directory),
            estimator=estimator,
            columns=columns,
            rows=rows,
            task=task,
            example=typical_values(Schema(columns), rows),
        )
        said = TASKS[task].predict(estimator, to_frame(rows))
        if name == "compiled":
            report = compile_version(folder, estimator, TASKS[task], to_frame(rows), said)
            assert report.passed, report.reason
        follower.deployments += (deployed(made, name),)
        answers[name] = {"columns": listed(rows), "outputs": outputs(said)}
    return answers


def deployed(made: Deployment, name: str) -> Deployment:
    fields = {field: getattr(made, field) for field in Deployment.__struct_fields__}
    serving_version = type(made.serving)(
        version="3", stage="Production", digest=f"digest of {name}"
    )
    route = f"/predict/{name}"
    return Deployment(
        **fields | {"model": name, "name": name, "route": route, "serving": serving_version}
    )


def outputs(predictions: Predictions) -> dict[str, Any]:
    return listed(predictions.outputs)


def listed(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return arrays as JSON holds them, null for what is missing."""
    plain = {name: values.tolist() for name, values in arrays.items()}
    return {
        name: [None if value != value else value for value in values]
        for name, values in plain.items()
    }


async def main() -> None:
    follower = SeveralModels(Path(sys.argv[1]))
    answers = write(follower)
    async with serving(follower, command=COMMAND, workers=2, load_timeout_s=120.0) as server:
        await server.joined(2)
        health = await server.get("/health")
        assert health["problems"] == [], health["problems"]
        print(json.dumps({"url": server.url, "models": answers}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
