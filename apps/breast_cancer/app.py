"""Is a breast mass benign? Logistic regression on measurements of cell nuclei.

The rows are the 569 of the Diagnostic Wisconsin Breast Cancer data, which scikit-learn carries.
A fine-needle aspirate of a mass is photographed, ten properties of each nucleus in the picture are
measured, and each property gives three columns: its mean over the nuclei, the standard error of
that mean, and the mean of the three largest ("worst") values. The answer keeps scikit-learn's
coding: 0 is malignant, 1 is benign; ``probability`` is that of benign.

Source: W. N. Street, W. H. Wolberg, O. L. Mangasarian, "Nuclear feature extraction for breast
tumor diagnosis", Biomedical Image Processing and Biomedical Visualization, SPIE 1905 (1993).
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

from greenroom import App, Column, Gate, Model, classification

LENGTH = "image unit"
AREA = "square image unit"
NO_UNIT = ""
"""The source gives no physical scale for its pictures, so lengths are in the picture's own unit."""

# The property; its unit; what it is; then for mean, error and worst a typical value of a malignant
# mass, and the largest value that is accepted, about twice the largest in the data.
MEASUREMENTS = (
    (
        "radius",
        LENGTH,
        "distance from the centre to points on the outline",
        (17.99, 1.095, 25.38),
        (60.0, 6.0, 80.0),
    ),
    (
        "texture",
        NO_UNIT,
        "standard deviation of grey values",
        (10.38, 0.9053, 17.33),
        (80.0, 10.0, 100.0),
    ),
    ("perimeter", LENGTH, "length of the outline", (122.8, 8.589, 184.6), (400.0, 50.0, 500.0)),
    ("area", AREA, "area inside the outline", (1001.0, 153.4, 2019.0), (5000.0, 1200.0, 9000.0)),
    (
        "smoothness",
        NO_UNIT,
        "local variation of the radius",
        (0.1184, 0.006399, 0.1622),
        (0.4, 0.07, 0.5),
    ),
    (
        "compactness",
        NO_UNIT,
        "squared perimeter over area, less one",
        (0.2776, 0.04904, 0.6656),
        (0.8, 0.3, 2.5),
    ),
    (
        "concavity",
        NO_UNIT,
        "depth of the dents in the outline",
        (0.3001, 0.05373, 0.7119),
        (1.0, 0.8, 2.5),
    ),
    (
        "concave points",
        NO_UNIT,
        "share of the outline that is dented",
        (0.1471, 0.01587, 0.2654),
        (0.5, 0.2, 0.6),
    ),
    (
        "symmetry",
        NO_UNIT,
        "difference between the two sides of the longest chord",
        (0.2419, 0.03003, 0.4601),
        (0.7, 0.2, 1.4),
    ),
    (
        "fractal dimension",
        NO_UNIT,
        "how the outline lengthens when measured more finely (coastline approximation), less one",
        (0.07871, 0.006193, 0.1189),
        (0.2, 0.06, 0.5),
    ),
)
SCALER = "preprocessing/scaler.pkl"
STATISTICS = (
    ("mean {}", "Mean over the nuclei"),
    ("{} error", "Standard error of the mean"),
    ("worst {}", "Mean of the three largest values"),
)


def columns() -> Iterator[Column]:
    """Yield the 30 columns in scikit-learn's order; requests say ``mean_radius``."""
    for position, (pattern, statistic) in enumerate(STATISTICS):
        for measurement, unit, meaning, examples, maxima in MEASUREMENTS:
            name = pattern.format(measurement)
            yield Column(
                name,
                request_name=name.replace(" ", "_"),
                minimum=0.0,
                maximum=maxima[position],
                unit=unit,
                description=f"{statistic}: {meaning}.",
                example=examples[position],
            )


def dataset() -> dict[str, Any]:
    """Return scikit-learn's own copy: 569 rows, ``diagnosis`` 0 (malignant, 212) or 1 (benign)."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    measured = dict(zip(data.feature_names.tolist(), data.data.T, strict=True))
    return {**measured, "diagnosis": data.target}


def candidates(seed: int) -> dict[str, Any]:
    """Scaled logistic regression over penalties and their strengths, the strongest first."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    # An l1_ratio of 0 is the l2 penalty and 1 the l1 penalty; liblinear solves both.
    return {
        f"{penalty}, C={C:g}": Pipeline(
            [
                ("scaler", StandardScaler()),
                (
                    "classifier",
                    LogisticRegression(
                        C=C,
                        l1_ratio=l1_ratio,
                        solver="liblinear",
                        max_iter=1000,
                        random_state=seed,
                    ),
                ),
            ]
        )
        for penalty, l1_ratio in (("l2", 0.0), ("l1", 1.0))
        for C in (0.01, 0.1, 1.0, 10.0)
    }


def params(estimator: Any) -> dict[str, Any]:
    """Name what the candidates differ in."""
    classifier = estimator.named_steps["classifier"]
    return {"C": classifier.C, "penalty": "l1" if classifier.l1_ratio == 1.0 else "l2"}


def artifacts(estimator: Any) -> dict[str, bytes]:
    """Give the fitted scaler as a file of its own; serving uses the one inside the pipeline."""
    return {SCALER: pickle.dumps(estimator.named_steps["scaler"])}


app = App(
    name="breast-cancer",
    experiment="breast-cancer-classification",
    models=(
        Model(
            name="ClassificationModel",
            task=classification,
            columns=tuple(columns()),
            dataset=dataset,
            dataset_name="breast_cancer",
            target="diagnosis",
            candidates=candidates,
            # The area under the ROC curve does not depend on which class is called positive, nor
            # on a threshold. About 0.995 is usual here; below 0.95 something is broken.
            gate=Gate("roc_auc", minimum=0.95),
            serve="latest",
            route="/predict",
            params=params,
            artifacts=artifacts,
            # The trainer before this one kept its scaler there, and registered the rest alone.
            preprocessing=SCALER,
        ),
    ),
    retrain="when changed",
)
