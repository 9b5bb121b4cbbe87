"""``/invocations`` beside MLflow's own scoring server: the same model, the same bodies.

Both answer in this process; what differs stands in the two tables of differences, each with its
reason in docs/http-api.md. MLflow's client is run against real worker processes.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from fake_server import FakeFollower, serving
from greenroom.inference.generation import Deployment, Generation
from greenroom.inference.inference import Engine
from greenroom.status import VersionStatus
from greenroom.supervision.worker_process import COMMAND
from servers import FakeServer

JSON, CSV = "application/json", "text/csv"
ROWS = [
    {"a b": 1.5, "i": 3, "code": "001", "n": None},
    {"a b": -2.0, "i": 1, "code": "1", "n": 0.5},
]
FIRST, SECOND = ROWS
SPLIT = {"columns": list(FIRST), "data": [list(row.values()) for row in ROWS]}
COLUMNS = {name: [row[name] for row in ROWS] for name in FIRST}


def body(**formats):
    return json.dumps(formats)


def changed(**changes):
    return body(dataframe_records=[{**FIRST, **changes}])


def csv(*lines):
    return ("\n".join(lines) + "\n", CSV)


SAME = {
    "records": body(dataframe_records=ROWS),
    "split": body(dataframe_split=SPLIT),
    "split with an index": body(dataframe_split={**SPLIT, "index": [5, 6]}),
    "split with a wrong index": body(dataframe_split={**SPLIT, "index": [5]}),
    "split with another field": body(dataframe_split={**SPLIT, "foo": 1}),
    "split without columns": body(dataframe_split={"data": SPLIT["data"]}),
    "split with a column twice": body(
        dataframe_split={"columns": ["n", "n"], "data": [[1, 2]]},
    ),
    "split without rows": body(dataframe_split={**SPLIT, "data": []}),
    "instances": body(instances=ROWS),
    "instances by column": body(instances=COLUMNS),
    "inputs": body(inputs=ROWS),
    "inputs by column": body(inputs=COLUMNS),
    "inputs of one row": body(inputs=FIRST),
    "columns of another length": body(inputs={**COLUMNS, "i": [1]}),
    "columns of lists": body(inputs={name: [[v] for v in vs] for name, vs in COLUMNS.items()}),
    "no column": body(inputs={}),
    "no instance": body(instances=[]),
    "no record": body(dataframe_records=[]),
    "inputs without rows": body(inputs={name: [] for name in COLUMNS}),
    "inputs null": body(inputs=None),
    "records by column": body(dataframe_records=COLUMNS),
    "records of lists": body(dataframe_records=SPLIT["data"]),
    "a column more": changed(zz=1),
    "a required column less": body(dataframe_records=[{"n": 1}]),
    "a field beside the format": body(dataframe_records=ROWS, foo=1, signature_name="x"),
    "params of none": body(dataframe_records=ROWS, params={}),
    "params null": body(dataframe_records=ROWS, params=None),
    "an integer for a number": changed(**{"a b": 3}),
    "a whole number for an integer": changed(i=3.0),
    "a text for a number": changed(**{"a b": "x"}),
    "a number for a text": changed(code=1),
    "NaN for what may be missing": changed(n=float("nan")),
    "a byte order mark": "\ufeff" + body(dataframe_records=ROWS),
    "two formats": body(inputs=COLUMNS, instances=ROWS),
    "no format": body(x=1),
    "a list": json.dumps(ROWS),
    "a number": "3",
    "null": "null",
    "a string": '"x"',
    "nothing": "",
    "spaces": "  ",
    "half an object": "{",
    "not UTF-8": b"\xff",
    "half a character": changed(code="\ud800"),
    "charset": (body(dataframe_records=ROWS), "application/json; charset=UTF-8"),
    "another charset": (body(dataframe_records=ROWS), "application/json; charset=latin-1"),
    "another parameter": (body(dataframe_records=ROWS), "application/json; foo=1"),
    "plain text": (body(dataframe_records=ROWS), "text/plain"),
    "a form": (body(dataframe_records=ROWS), "application/x-www-form-urlencoded"),
    "CSV": csv("a b,i,code,n", "1.5,3,001,", "-2,1,1,0.5"),
    "CSV in another order": csv("code,n,a b,i,extra", "001,,1.5,3,x"),
    "CSV with blank lines": csv("a b,i,code,n", "", "1.5,3,001,", ""),
    "CSV with an index": csv(",a b,i,code,n", "0,1.5,3,001,1"),
    "CSV with quotes": csv("a b,i,code,n", '"1.5",3,"001",1'),
    "CSV with missing values": csv("a b,i,code,n", "1,1,1,None", "1,1,1,<NA>", "1,1,1,#N/A"),
    "CSV with a byte order mark": ("\ufeffa b,i,code,n\n1,1,1,1\n", CSV),
    "CSV with carriage returns": ("a b,i,code,n\r1,1,1,1\r", CSV),
    "CSV with a whole float": csv("a b,i,code,n", "1e0,1.0,1,1"),
    "CSV with a fraction for an integer": csv("a b,i,code,n", "1,1.5,1,1"),
    "CSV with a text for a number": csv("a b,i,code,n", "x,1,1,1"),
    "CSV with a digit separator": csv("a b,i,code,n", "1_0,1,1,1"),
    "CSV with a missing category": csv("a b,i,code,n", "1,1,NA,1"),
    "CSV of a column less": csv("n", "2"),
    "CSV with a row too long": csv("a b,i,code,n", "1,1,1,1", "1,1,1,1,1"),
    "CSV with an open quote": csv("a b,i,code,n", '"1,1,1,1'),
    "CSV of nothing": ("", CSV),
    "CSV of a header alone": csv("a b,i,code,n"),
    "CSV that is not UTF-8": (b"a b,i,code,n\n1,1,\xff,1\n", CSV),
}
"""Both answer with the same predictions, or both refuse with the same status."""

REFUSED_HERE = {
    "a text that looks like a number": changed(**{"a b": "1.5"}),
    "true for a number": changed(**{"a b": True}),
    "a fraction for an integer": changed(i=1.5),
    "null for what is required": changed(**{"a b": None}),
    "an infinity": changed(**{"a b": float("inf")}),
    "a number too large": changed(**{"a b": 0}).replace(": 0,", ": 1e999,"),
    "a name twice": changed().replace('"i": 3', '"i": 3, "i": 4'),
    "a format twice": body(inputs=COLUMNS)[:-1] + f', "inputs": {json.dumps(COLUMNS)}}}',
    "params": body(dataframe_records=ROWS, params={"x": 1}),
    "a row too short": body(dataframe_split={**SPLIT, "data": [[1.5, 3, "001"], [1, 1, "1", 1]]}),
    "UTF-16": body(dataframe_records=ROWS).encode("utf-16"),
    "CSV with a column twice": csv("a b,a b,i,code,n", "1,2,3,1,1"),
    "CSV with a row too short": csv("a b,i,code,n", "1,1,1"),
    "CSV with an index that has no name": csv("a b,i,code,n", "7,1,1,1,1"),
    "CSV with an infinity": csv("a b,i,code,n", "inf,1,1,1"),
    "CSV with a missing number": csv("a b,i,code,n", ",1,1,1"),
}
"""MLflow casts, fills in or passes over; here it is refused with 400."""

ANSWERED_HERE = {
    "instances in the signature's order": body(instances=SPLIT["data"]),
    "inputs in the signature's order": body(inputs=SPLIT["data"]),
    "a column that may be missing less": body(
        dataframe_records=[{name: v for name, v in FIRST.items() if name != "n"}]
    ),
    "another spelling of the content type": (body(dataframe_records=ROWS), "Application/JSON"),
    "a quoted charset": (body(dataframe_records=ROWS), 'application/json;charset="utf-8"'),
}
"""MLflow refuses these."""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """MLflow's server and ours, of one model; and the estimator itself."""
    import mlflow.sklearn
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import load_model, scoring_server
    from mlflow.types import ColSpec
    from mlflow.types import Schema as Signature

    random = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "a b": random.normal(size=60),
            "i": random.integers(0, 9, 60),
            "code": np.where(random.random(60) < 0.5, "001", "1"),
            "n": random.normal(size=60),
        }
    )
    texts = ColumnTransformer(
        [("t", OneHotEncoder(), ["code"]), ("n", "passthrough", ["a b", "i", "n"])]
    )
    estimator = make_pipeline(texts, HistGradientBoostingClassifier(max_iter=3))
    estimator.fit(X, (X["a b"] > 0).astype(int))
    columns = [ColSpec("double", "a b"), ColSpec("long", "i"), ColSpec("string", "code")]
    signature = ModelSignature(
        inputs=Signature([*columns, ColSpec("double", "n", required=False)]),
        outputs=Signature([ColSpec("long")]),
    )
    directory = tmp_path_factory.mktemp("mlflow") / "model"
    mlflow.sklearn.save_model(
        estimator,
        directory,
        signature=signature,
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
        input_example=X.head(2),
    )
    deployment = deployed(directory)
    engine = Engine(lambda: 1)
    engine.prepare(Generation(number=1, deployments=(deployment,)))
    (served,) = engine.current().models.values()
    return SimpleNamespace(
        mlflow=scoring_server.init(load_model(str(directory))),
        ours=FakeServer([served]).asgi(),
        estimator=estimator,
        directory=directory,
        frame=X,
    )


def deployed(directory: Path) -> Deployment:
    serving_version = VersionStatus(version="1", stage="Production", digest="d")
    return Deployment(
        model="m",
        name="M",
        selector="Production",
        route="/predict",
        serving=serving_version,
        directory=str(directory),
    )


def replies(both, sent):
    """Send a body to both; return MLflow's reply and ours."""
    content, media = sent if isinstance(sent, tuple) else (sent, JSON)
    content = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")

    async def post(asgi):
        transport = httpx.ASGITransport(app=asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"content-type": media}
            return await client.post("/invocations", content=content, headers=headers)

    return asyncio.run(post(both.mlflow)), asyncio.run(post(both.ours))


def refused(reply):
    """Check that a refusal has the shape of MLflow's."""
    assert reply.status_code in {400, 415}
    assert set(reply.json()) == {"error_code", "message"}
    return True


@pytest.mark.parametrize("name", SAME)
@pytest.mark.filterwarnings("ignore")
def test_both_answer_alike(both, name):
    theirs, ours = replies(both, SAME[name])
    assert ours.status_code == theirs.status_code
    if ours.status_code == 200:
        assert ours.json() == theirs.json()
    else:
        assert refused(ours)


@pytest.mark.parametrize("name", REFUSED_HERE)
@pytest.mark.filterwarnings("ignore")
def test_what_mlflow_casts_or_passes_over_is_refused(both, name):
    theirs, ours = replies(both, REFUSED_HERE[name])
    assert theirs.status_code == 200
    assert refused(ours)


@pytest.mark.parametrize("name", ANSWERED_HERE)
@pytest.mark.filterwarnings("ignore")
def test_what_mlflow_refuses_without_need_is_answered(both, name):
    theirs, ours = replies(both, ANSWERED_HERE[name])
    assert theirs.status_code in {400, 415}
    assert ours.status_code == 200


def test_mlflows_client_gets_the_estimators_own_answers_of_a_real_server(both, tmp_path):
    import mlflow
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    frame = both.frame.assign(n=np.where(both.frame["i"] > 6, np.nan, both.frame["n"]))
    expected = both.estimator.predict(frame).tolist()
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")

    def ask(host, port):
        client = ScoringServerClient(host, port)
        client.wait_server_ready(timeout=10)
        assert client.get_version() == mlflow.__version__
        sent = [frame, records, body(instances=records)]
        answers = [client.invoke(one).get_predictions()[0].tolist() for one in sent]
        with pytest.raises(Exception, match=r"error code 400.*i must be a whole number"):
            client.invoke(frame.assign(i=1.5))
        with pytest.raises(Exception, match=r"error code 400.*takes no params"):
            client.invoke(frame, params={"x": 1})
        return answers

    async def scenario():
        follower = FakeFollower(tmp_path)
        follower.selected = deployed(both.directory)
        async with serving(follower, command=COMMAND, workers=2) as server:
            await server.joined(2)
            return await asyncio.to_thread(ask, *server.supervisor.address)

    assert asyncio.run(asyncio.wait_for(scenario(), 120)) == [expected] * 3
