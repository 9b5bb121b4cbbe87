import asyncio
from pathlib import Path

import pytest

import builders
from fake_server import FakeFollower, serving
from greenroom.app import App, Model
from greenroom.errors import SettingsError, VersionUnloadable
from greenroom.gate import Gate
from greenroom.schema import Column
from greenroom.settings import ModelSettings, Settings
from greenroom.task import regression
from greenroom.wiring import app_targets, build_tracking_server, registered_target
from greenroom.worker_process import COMMAND


def model(name: str, **fields: object) -> Model:
    return Model(
        name=name,
        task=regression,
        columns=(Column("x"),),
        dataset="data.csv",
        target="y",
        candidates=lambda seed: {},
        gate=Gate("root_mean_squared_error", minimum=1.0),
        **fields,
    )


APP = App(
    name="app",
    experiment="e",
    models=(model("one", route="/one"), model("two", route="/two", serve="@champion")),
)


def test_an_apps_models_are_followed_by_their_own_names_and_selectors() -> None:
    targets = app_targets(APP, Settings())
    assert [(one.model, one.name, str(one.selector), one.route) for one in targets] == [
        ("one", "one", "Production", "/one"),
        ("two", "two", "@champion", "/two"),
    ]


def test_settings_point_a_route_at_another_registered_model_and_selector() -> None:
    settings = Settings(models={"one": ModelSettings(name="other", serve="Staging")})
    one, two = app_targets(APP, settings)
    assert (one.model, one.name, str(one.selector), one.route) == (
        "one",
        "other",
        "Staging",
        "/one",
    )
    assert two.name == "two"


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"three": ModelSettings(name="x")}, r"models\.three: app 'app' has no such .* one, two"),
        ({"one": ModelSettings(serve="@v7")}, r"models\.one\.serve: '@v7' selects nothing; use"),
    ],
)
def test_settings_that_deploy_nothing_are_refused(
    models: dict[str, ModelSettings], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        app_targets(APP, Settings(models=models))


def test_a_registered_model_is_followed_without_an_app() -> None:
    target = registered_target("iris", Settings(), serve="latest")
    assert (target.name, str(target.selector), target.route) == ("iris", "latest", "/predict")


def test_building_starts_nothing(tmp_path: Path) -> None:
    server = build_tracking_server(Settings(home=str(tmp_path), tracking_uri="http://127.0.0.1:1"))
    assert server.state == "unknown"
    assert list(tmp_path.iterdir()) == []


APP_FILE = """
from greenroom import App, Column, Gate, Model, Route, classification

app = App(
    name="tiny",
    experiment="e",
    models=[
        Model(
            name="m",
            task=classification,
            columns=[Column("a", minimum=-10, maximum=10), Column("b", "integer", minimum=0)],
            dataset="data.csv",
            target="y",
            candidates=lambda seed: {},
            gate=Gate("accuracy", minimum=0.5),
        )
    ],
    routes=[Route("GET", "/versions", lambda s: {m.name: m.serving.version for m in s.models})],
)
"""


def test_real_workers_serve_an_app_swap_its_versions_and_refuse_a_broken_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text(APP_FILE)
    follower = FakeFollower(tmp_path)
    for number, C in (("1", 1.0), ("2", 0.001), ("3", 1.0)):
        builders.version(tmp_path / f"version {number}", estimator=builders.classifier(C=C))
    (tmp_path / "version 3" / "model.pkl").write_bytes(b"not a model")
    row = {"a": 1.5, "b": 3}

    async def scenario() -> None:
        follower.select("1")
        async with serving(follower, command=COMMAND, app_folder=tmp_path, workers=2) as server:
            await server.joined(2)
            answers = []
            for version in ("1", "2"):
                follower.select(version)
                await server.supervisor.reload()
                answer = await server.client.post(server.url + "/", json=row)
                assert answer.status_code == 200, answer.text
                answers.append(answer.json())
                assert (await server.get("/versions")) == {"M": version}
            assert [answer["model_version"] for answer in answers] == ["1", "2"]
            assert answers[0]["probability"] != answers[1]["probability"]

            follower.selected = follower.version("3")
            with pytest.raises(VersionUnloadable, match=r"M version 3 was refused: "):
                await server.supervisor.reload()
            answer = await server.client.post(server.url + "/", json=row)
            assert answer.json()["model_version"] == "2"
            health = await server.client.get(server.url + "/health")
            assert health.json()["status"] == "degraded"
            assert server.lines == []

    asyncio.run(asyncio.wait_for(scenario(), 120))
