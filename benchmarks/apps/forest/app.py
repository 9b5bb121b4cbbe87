"""A random forest of 200 trees on made up borrowers: an expensive model on a narrow row.

The rows are generated, everywhere and always, so that the forest is the same wherever the figures
are taken. The scikit-learn defaults grow trees to the last row; leaves of 20 rows are what one
would serve, and keep a version below 20 MB.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from greenroom import App, Column, Gate, Model, classification

N_ROWS = 20_000
COLUMNS = (
    Column("utilization", minimum=0, maximum=10, example=0.3),
    Column("age", minimum=18, maximum=120, example=45.0),
    Column("late_30_days", minimum=0, maximum=98, example=0.0),
    Column("debt_ratio", minimum=0, maximum=1_000, example=0.4),
    Column("monthly_income", minimum=0, maximum=10_000_000, example=5_400.0),
    Column("open_lines", minimum=0, maximum=200, example=8.0),
    Column("late_90_days", minimum=0, maximum=98, example=0.0),
    Column("mortgages", minimum=0, maximum=200, example=1.0),
    Column("late_60_days", minimum=0, maximum=98, example=0.0),
    Column("dependents", minimum=0, maximum=50, example=1.0),
)


def dataset() -> dict[str, Any]:
    """Return 20,000 made up borrowers; about 7 % default. The same rows each time."""
    random = np.random.default_rng(20)
    strain = random.normal(size=N_ROWS)  # financial strain, which nobody sees
    columns = {
        "utilization": np.round(1.2 / (1 + np.exp(1.5 - 1.3 * strain)), 4),
        "age": np.clip(np.round(random.normal(52, 14, N_ROWS)), 21, 100),
        "late_30_days": random.poisson(np.exp(-2.2 + 1.1 * strain)).clip(0, 20),
        "debt_ratio": np.round(np.exp(random.normal(-1.1, 0.9, N_ROWS) + 0.1 * strain), 4),
        "monthly_income": np.round(np.exp(random.normal(8.6, 0.6, N_ROWS) - 0.1 * strain)),
        "open_lines": random.poisson(8.0, N_ROWS),
        "late_90_days": random.poisson(np.exp(-3.5 + 1.1 * strain)).clip(0, 20),
        "mortgages": random.poisson(1.0, N_ROWS),
        "late_60_days": random.poisson(np.exp(-3.7 + 1.1 * strain)).clip(0, 20),
        "dependents": random.poisson(0.8, N_ROWS),
    }
    score = -4.0 + 0.6 * strain + 1.5 * columns["utilization"] + 0.8 * columns["late_90_days"]
    defaults = random.random(N_ROWS) < 1 / (1 + np.exp(-score))
    measured = {name: values.astype(np.float64) for name, values in columns.items()}
    return {**measured, "defaults": defaults.astype(np.int64)}


def candidates(seed: int) -> dict[str, Any]:
    """Return the one forest."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(n_estimators=200, min_samples_leaf=20, random_state=seed)
    return {"forest of 200 trees": forest}


app = App(
    name="bench-forest",
    experiment="bench-forest",
    models=(
        Model(
            name="bench-forest",
            task=classification,
            columns=COLUMNS,
            dataset=dataset,
            target="defaults",
            candidates=candidates,
            gate=Gate("roc_auc", minimum=0.6),
            serve="latest",
            route="/predict",
        ),
    ),
)
