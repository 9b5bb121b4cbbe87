"""A small app on disk for tests that train: two numbers, one flag, 600 rows in a CSV file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

APP = """
from greenroom import App, Column, Gate, Model, classification


def candidates(seed):
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    return {
        "tree": DecisionTreeClassifier(max_depth=3, random_state=seed),
        "logistic": LogisticRegression(C=__C__, random_state=seed),
    }


app = App(
    name="sample",
    experiment="sample-__NAME__",
    retrain="__RETRAIN__",
    models=[
        Model(
            name="__NAME__",
            task=classification,
            dataset="data/rows.csv",
            target="late",
            columns=[
                Column("amount", minimum=0, unit="USD", example=12.5),
                Column(
                    "visits-30d", "integer", request_name="visits_30d", minimum=0, nullable=True
                ),
                Column("member", "boolean"),
            ],
            features="features.py",
            candidates=candidates,
            gate=Gate("roc_auc", minimum=__MINIMUM__),
            serve="__SERVE__",
            folds=3,
        )
    ],
)
"""

FEATURES = '''
"""Features of the sample: how much was spent a visit."""

import numpy as np


def features(columns):
    visits = columns["visits-30d"]
    known = ~np.isnan(visits)
    return {
        "amount": columns["amount"],
        "visits": np.where(known, visits, -1.0),
        "visits_known": known.astype(float),
        "member": columns["member"],
    }
'''


def write_rows(path: Path, n_rows: int = 600, seed: int = 0) -> None:
    """Write the data: a late payment is likelier with a high amount and few visits."""
    rng = np.random.default_rng(seed)
    amount = rng.gamma(2.0, 20.0, n_rows).round(2)
    visits = rng.poisson(3, n_rows)
    member = rng.random(n_rows) < 0.4
    signal = 0.06 * amount - 0.7 * visits - 0.8 * member
    late = rng.random(n_rows) < 1 / (1 + np.exp(-signal))
    lines = ["amount,visits-30d,member,late"]
    for row in range(n_rows):
        seen = "" if rng.random() < 0.1 else str(visits[row])
        lines.append(f"{amount[row]},{seen},{str(member[row]).lower()},{int(late[row])}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_app(
    folder: Path,
    name: str,
    *,
    serve: str = "Production",
    minimum: float = 0.6,
    retrain: str = "always",
    C: float = 1.0,
) -> Path:
    """Write the app called ``name`` into ``folder``, with its data, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = APP
    for mark, value in (
        ("__NAME__", name),
        ("__SERVE__", serve),
        ("__MINIMUM__", minimum),
        ("__RETRAIN__", retrain),
        ("__C__", C),
    ):
        text = text.replace(mark, str(value))
    (folder / "app.py").write_text(text.lstrip(), encoding="utf-8")
    (folder / "features.py").write_text(FEATURES.lstrip(), encoding="utf-8")
    if not (folder / "data" / "rows.csv").exists():
        write_rows(folder / "data" / "rows.csv")
    return folder
