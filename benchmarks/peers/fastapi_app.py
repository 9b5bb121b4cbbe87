"""A service as people write it by hand: FastAPI, a pydantic model, a pandas DataFrame.

The pydantic model is made from the columns' names instead of being written out, which changes
nothing once it is there. ``BENCH_MODEL`` is the pickled estimator, ``BENCH_COLUMNS`` a JSON object
of request name to column.
"""

from __future__ import annotations

import json
import os
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel, Field, create_model

COLUMNS: dict[str, str] = json.loads(os.environ["BENCH_COLUMNS"])
FIELDS: dict[str, Any] = {name: (float, Field(ge=0)) for name in COLUMNS}
Row: Any = create_model("Row", **FIELDS)

model = pickle.loads(Path(os.environ["BENCH_MODEL"]).read_bytes())  # noqa: S301 - trained here
app = FastAPI()


class Prediction(BaseModel):
    """What one row is answered with."""

    prediction: int
    probability: float
    timestamp: datetime


def _predict(rows: list[Any]) -> list[Prediction]:
    frame = pd.DataFrame([row.model_dump() for row in rows]).rename(columns=COLUMNS)
    probabilities = model.predict_proba(frame)[:, 1]
    now = datetime.now(UTC)
    return [
        Prediction(prediction=int(value > 0.5), probability=float(value), timestamp=now)
        for value in probabilities
    ]


async def predict(row: Any) -> Prediction:
    """Answer one row."""
    return _predict([row])[0]


async def predict_many(rows: Any) -> list[Prediction]:
    """Answer many rows."""
    return _predict(rows)


# The types are known only now, so they are put where FastAPI looks for them.
predict.__annotations__ = {"row": Row, "return": Prediction}
predict_many.__annotations__ = {"rows": list[Row], "return": list[Prediction]}
app.post("/predict")(predict)
app.post("/predict/batch")(predict_many)
