"""Logs models with plain MLflow code, as somebody does who has never heard of Greenroom.

Called as ``python log_plain_models.py URI PREFIX``; prints, as JSON, rows by model and what the
estimator itself, or the loaded python_function, answers for them.
"""

import json
import sys

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import sklearn
import xgboost
from mlflow.models import infer_signature
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

URI, PREFIX = sys.argv[1:]
random = np.random.default_rng(0)
NUMBERS = pd.DataFrame({"a": random.normal(size=200), "b": random.normal(size=200)})
TARGET = (NUMBERS["a"] + NUMBERS["b"] > 0).astype(int)
MIXED = NUMBERS.assign(code=np.where(random.random(200) < 0.5, "001", "1"), n=np.arange(200))


class Doubled(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["a"] * 2


def answered(model, X):
    if isinstance(model, Doubled):
        return model.predict(None, X)
    return model.predict(xgboost.DMatrix(X) if isinstance(model, xgboost.Booster) else X)


def log(flavor, name, model, X, *packages, signed=True, **more):
    pinned = [f"{package.__name__}=={package.__version__}" for package in packages]
    pinned = [text.replace("sklearn", "scikit-learn") for text in pinned]
    answers = answered(model, X)
    signature = infer_signature(X, answers) if signed else None
    if isinstance(model, Doubled):
        more["python_model"] = model
        args = ()
    else:
        args = (model,)
    full = f"{PREFIX}-{name}"
    flavor.log_model(
        *args,
        name=name,
        signature=signature,
        pip_requirements=pinned,
        registered_model_name=full,
        **more,
    )
    client = mlflow.MlflowClient()
    version = client.search_model_versions(f"name='{full}'")[0].version
    client.set_registered_model_alias(full, "champion", version)
    rows = X.head(20) if isinstance(X, pd.DataFrame) else pd.DataFrame(X[:20], columns=["a", "b"])
    expected = {"rows": rows.to_dict("records"), "prediction": np.asarray(answers)[:20].tolist()}
    if isinstance(model, xgboost.Booster):
        expected["prediction"] = answers[:20].argmax(axis=1).tolist()
        expected["probabilities"] = answers[:20].tolist()
    if hasattr(model, "predict_proba"):
        expected["probabilities"] = model.predict_proba(X)[:20].tolist()
    return full, expected


def main():
    mlflow.set_tracking_uri(URI)
    mlflow.set_registry_uri(URI)
    texts = make_pipeline(
        ColumnTransformer([("t", OneHotEncoder(), ["code"]), ("n", StandardScaler(), ["a", "n"])]),
        LogisticRegression(),
    ).fit(MIXED, TARGET)
    xgb = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(NUMBERS, TARGET)
    unnamed = xgboost.XGBRegressor(n_estimators=5, n_jobs=1).fit(NUMBERS.to_numpy(), TARGET)
    lgb = lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(NUMBERS, TARGET)
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    scaled.fit(NUMBERS, np.where(TARGET, "above", "below"))
    three = xgboost.DMatrix(NUMBERS, np.arange(200) % 3)
    options = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
    found = [
        log(mlflow.sklearn, "scaled", scaled, NUMBERS, sklearn),
        log(mlflow.xgboost, "three", xgboost.train(options, three, 3), NUMBERS, xgboost),
        log(mlflow.sklearn, "texts", texts, MIXED, sklearn, input_example=MIXED.head(2)),
        log(
            mlflow.sklearn,
            "pickled",
            texts,
            MIXED,
            sklearn,
            serialization_format="cloudpickle",
            input_example=MIXED.head(2),
        ),
        log(mlflow.xgboost, "xgb", xgb, NUMBERS, xgboost),
        log(mlflow.xgboost, "unnamed", unnamed, NUMBERS.to_numpy(), xgboost, signed=False),
        log(mlflow.lightgbm, "lgb", lgb, NUMBERS, lightgbm, serialization_format="cloudpickle"),
        log(mlflow.lightgbm, "bare", lgb.booster_, NUMBERS, lightgbm),
        log(mlflow.pyfunc, "function", Doubled(), NUMBERS, mlflow),
    ]
    print("ANSWERS " + json.dumps(dict(found)))


if __name__ == "__main__":
    main()
