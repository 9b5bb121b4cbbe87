"""A model that no converter to ONNX knows: splines of each feature, then a logistic regression.

skl2onnx has no converter for ``SplineTransformer``, so this is served by the native runtime. Its
requests are those of ``apps/breast_cancer``, so that the two can be swapped for one another.
"""

from __future__ import annotations

from typing import Any

from greenroom import App, Column, Gate, Model, classification


def dataset() -> dict[str, Any]:
    """Return scikit-learn's breast cancer rows: 569, ``diagnosis`` 0 (malignant) or 1 (benign)."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    measured = dict(zip(data.feature_names.tolist(), data.data.T, strict=True))
    return {**measured, "diagnosis": data.target}


def columns() -> tuple[Column, ...]:
    """Return the 30 columns, in scikit-learn's order, with an example from the first row."""
    rows = dataset()
    return tuple(
        Column(
            name,
            request_name=name.replace(" ", "_"),
            minimum=0.0,
            maximum=10_000.0,
            example=float(values[0]),
        )
        for name, values in rows.items()
        if name != "diagnosis"
    )


def candidates(seed: int) -> dict[str, Any]:
    """Return the one pipeline."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer, StandardScaler

    pipeline = make_pipeline(
        StandardScaler(),
        SplineTransformer(n_knots=5),
        LogisticRegression(C=0.1, max_iter=1000, random_state=seed),
    )
    return {"splines": pipeline}


app = App(
    name="bench-spline",
    experiment="bench-spline",
    models=(
        Model(
            name="bench-spline",
            task=classification,
            columns=columns(),
            dataset=dataset,
            target="diagnosis",
            candidates=candidates,
            gate=Gate("roc_auc", minimum=0.9),
            serve="latest",
            route="/predict",
        ),
    ),
)
