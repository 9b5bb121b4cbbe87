"""Bicycles that pass a counter in Paris in an hour, and whether that is few or many there.

Two models on the hourly counts of 56 counters: ``cyclist-traffic`` says bikes an hour, its
candidates are a forest (``rf``) and a neural network (``nn``); ``cyclist-traffic-class`` says low,
medium or high by the counter's own terciles (``rf_class``). ``usual_traffic.py`` is how both go
about it, ``features.py`` what they look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from greenroom import (
    App,
    Column,
    Gate,
    Model,
    Split,
    TrainingPlan,
    TrainingRoute,
    classification,
    regression,
)
from greenroom.split import holdout_mask

from .usual_traffic import UsualClass, UsualTimesCalendar, WeeklyProfile

COLUMNS = (
    Column(
        "counter_id",
        "string",
        nullable=True,
        description="The counter's id. It, its name or its coordinates have to be given.",
        example="100057445-103057445",
    ),
    Column(
        "counter_name",
        "string",
        nullable=True,
        description="The counter's name, instead of its id.",
        example="Totem 73 boulevard de Sébastopol N-S",
    ),
    Column(
        "date",
        "datetime",
        description="The hour; in UTC, as the counts are, where it has no offset.",
        example="2021-07-15T06:00:00Z",
    ),
    Column(
        "latitude",
        minimum=48.5,
        maximum=49.2,
        nullable=True,
        unit="degrees",
        description="Needed for a counter that is not known, and otherwise looked up.",
        example=48.86377,
    ),
    Column(
        "longitude",
        minimum=1.9,
        maximum=2.9,
        nullable=True,
        unit="degrees",
        description="Needed for a counter that is not known, and otherwise looked up.",
        example=2.35096,
    ),
)

# The last 30 of the file's 342 days, less a few hours in which a counter was away.
SPLIT = Split(holdout=0.08858, time="date")

CLASSES = ("low", "medium", "high")


def candidates(seed: int) -> dict[str, Any]:
    """Return a forest and a neural network that learn what the calendar makes of the usual."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    forest = RandomForestRegressor(
        n_estimators=100,
        # Hours, of which a day has 24 in one weather: fewer would be learnt as the calendar's.
        min_samples_leaf=100,
        max_features=0.6,
        random_state=seed,
    )
    network = make_pipeline(
        make_column_transformer(
            # Hour, weekday and kind of day are not amounts.
            (OneHotEncoder(handle_unknown="ignore"), [0, 1, 2]),
            remainder=StandardScaler(),
        ),
        # A count's variance grows with it.
        MLPRegressor(
            loss="poisson",
            hidden_layer_sizes=(32, 16),
            alpha=1.0,
            max_iter=500,
            random_state=seed,
        ),
    )
    return {"rf": UsualTimesCalendar(forest), "nn": UsualTimesCalendar(network)}


def baselines(seed: int) -> dict[str, Any]:
    """Return what anybody would make of the last weeks without a model."""
    del seed  # nothing in it is drawn
    return {"4-week profile": WeeklyProfile(weeks=4)}


def class_candidates(seed: int) -> dict[str, Any]:
    """Return a forest that is told how high the traffic usually is."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(
        n_estimators=60,
        min_samples_leaf=50,
        max_features=0.6,
        random_state=seed,
    )
    return {"rf_class": UsualClass(forest, order=CLASSES)}


def with_class(table: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return the rows with their class: which third of its counter's counts each is in.

    The thirds are those of the training period, so that nothing of the hold-out is in them.
    """
    counts = table["bike_count"].astype(np.float64)
    times = np.array(table["date"], dtype="datetime64[us]")
    keys = np.zeros(len(times), dtype=np.uint64)
    training = ~holdout_mask(keys, SPLIT, times=times)
    names, of_row = np.unique(table["counter_id"].astype(str), return_inverse=True)
    classes = np.empty(len(counts), dtype=object)
    for number in range(len(names)):
        rows = np.flatnonzero(of_row == number)
        known = rows[training[rows]]
        thirds = np.quantile(counts[known if len(known) else rows], [1 / 3, 2 / 3])
        classes[rows] = np.array(CLASSES, dtype=object)[np.searchsorted(thirds, counts[rows])]
    return {**{column.name: table[column.name] for column in COLUMNS}, "traffic": classes}


DATA = {"reference": "data/reference_data.parquet", "current": "data/current_data.parquet"}
SAMPLE = "data/test_sample.csv"
TEST_ROWS = 1_000


def plan(asked: Mapping[str, Any]) -> TrainingPlan:
    """Return what a request to ``POST /train`` trains; a test is one on a thousand rows."""
    kind, source = asked["model_type"], asked["data_source"] or "reference"
    tests = bool(asked["test_mode"])
    return TrainingPlan(
        model="cyclist-traffic-class" if kind == "rf_class" else "cyclist-traffic",
        candidates=(kind,),
        # The sample is of the reference; of the current data as many rows are drawn.
        dataset=SAMPLE if tests and source == "reference" else DATA[source],
        rows=TEST_ROWS if tests else 0,
    )


TRAINING = TrainingRoute(
    request=(
        Column(
            "model_type",
            "category",
            categories=("rf", "nn", "rf_class"),
            description="A forest, a neural network, or the forest of the classes.",
            example="rf",
        ),
        Column(
            "data_source",
            "category",
            categories=tuple(DATA),
            nullable=True,
            description="Counts up to May 2021, or from June 2021; default: reference.",
            example="reference",
        ),
        Column(
            "env",
            "category",
            categories=("dev", "prod"),
            nullable=True,
            description="What the server has to be for; default: whatever it is for.",
            example="dev",
        ),
        Column(
            "test_mode",
            "boolean",
            nullable=True,
            description="Whether to train on 1,000 rows, as a trial; default: false.",
            example=True,
        ),
    ),
    plan=plan,
    environment="env",
    summary="Train a model on 56 counters, register it and take it through the gate.",
)

app = App(
    name="cyclist-traffic",
    experiment="regmodel",
    environment={"ENV": "environment"},
    training=TRAINING,
    data_sources=DATA,
    models=(
        Model(
            name="cyclist-traffic",
            task=regression,
            columns=COLUMNS,
            dataset="data/counts.parquet",
            target="bike_count",
            features="features.py",
            candidates=candidates,
            baselines=baselines,
            split=SPLIT,
            folds=3,
            # What a trial on 1,000 rows may miss; what holds a worse one back is the champion.
            gate=Gate("r2_score", minimum=0.2),
            serve="Production",
            route="/predict",
        ),
        Model(
            name="cyclist-traffic-class",
            task=classification,
            columns=COLUMNS,
            dataset="data/counts.parquet",
            rows=with_class,
            target="traffic",
            features="features.py",
            candidates=class_candidates,
            split=SPLIT,
            folds=3,
            gate=Gate("accuracy", minimum=0.4),
            serve="Production",
            route="/predict/class",
        ),
    ),
)
