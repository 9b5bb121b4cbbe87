import asyncio
import json
import ssl
from pathlib import Path

import httpx
import pytest

import builders
from certificates import write_certificate
from fake_server import FakeFollower, Server, serving
from greenroom.access.tokens import TokensFile
from greenroom.app import App
from greenroom.errors import SettingsError, VersionUnloadable
from greenroom.gate import Gate
from greenroom.model import Model
from greenroom.schema import Column
from greenroom.settings import ModelSettings, Settings
from greenroom.supervision.supervisor import Supervisor
from greenroom.supervision.worker_process import COMMAND
from greenroom.task import regression
from greenroom.wiring import app_targets, build_tracking_server, registered_target


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_revoked_token_is_refused_by_every_worker_within_5_s(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP_FILE)
    follower = FakeFollower(tmp_path)
    builders.version(tmp_path / "version 1", estimator=builders.classifier())
    file = TokensFile(tmp_path / "tokens.json")
    kept, revoked = (file.add(name, ["predict"]).secret for name in ("kept", "revoked"))

    async def statuses(server: Server, secret: str) -> set[int]:
        """Ask on many connections, so that every worker answers some."""
        headers = {"authorization": f"Bearer {secret}", "connection": "close"}
        row = {"a": 1.5, "b": 3}
        sent = [server.client.post(server.url + "/", json=row, headers=headers) for _ in range(40)]
        return {answer.status_code for answer in await asyncio.gather(*sent)}

    def answering(server: Server) -> set[int]:
        """Return which workers have answered, by the lines that they have written."""
        lines = [json.loads(line) for line in server.lines]
        return {line["worker"] for line in lines if line["logger"] == "greenroom.access"}

    async def scenario() -> None:
        follower.select("1")
        settings = {"auth": "tokens", "tokens_file": str(file.path), "access_log": True}
        async with serving(
            follower, command=COMMAND, app_folder=tmp_path, workers=3, **settings
        ) as server:
            await server.joined(3)
            while len(answering(server)) < 3:
                assert await statuses(server, revoked) == {200}
            new = file.add("new", ["predict"]).secret
            file.revoke("revoked")
            await asyncio.sleep(1.2)
            server.lines.clear()
            while len(answering(server)) < 3:
                assert await statuses(server, revoked) == {401}
            assert await statuses(server, kept) == await statuses(server, new) == {200}

    asyncio.run(asyncio.wait_for(scenario(), 120))


@pytest.mark.slow
def test_https_is_served_with_the_given_certificate_and_with_the_renewed_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text(APP_FILE)
    follower = FakeFollower(tmp_path)
    builders.version(tmp_path / "version 1", estimator=builders.classifier())
    pem = write_certificate(tmp_path)
    files = {"ssl_certfile": str(pem.certfile), "ssl_keyfile": str(pem.keyfile)}

    async def predict(port: int) -> int:
        trusted = ssl.create_default_context(cafile=files["ssl_certfile"])
        async with httpx.AsyncClient(verify=trusted) as client:
            reply = await client.post(f"https://localhost:{port}/", json={"a": 1.5, "b": 3})
            return reply.status_code

    async def scenario() -> None:
        follower.select("1")
        async with serving(follower, command=COMMAND, app_folder=tmp_path, **files) as server:
            await server.joined(1)
            port = server.supervisor.address[1]
            assert await predict(port) == 200
            write_certificate(tmp_path)
            await asyncio.sleep(1.1)
            assert await predict(port) == 200
            with pytest.raises(httpx.TransportError):
                await server.client.get(server.url + "/live")

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"auth": "tokens"}, "make one: greenroom token add"),
        ({"tokens": (f"shop:predict:{'0' * 64}",)}, "set GREENROOM_AUTH=tokens"),
        ({"host": "0.0.0.0"}, "auth is none and 0.0.0.0 can be reached by other machines"),
        (
            {"host": "0.0.0.0", "auth": "tokens", "development_tokens": ("dev:predict:test",)},
            "development_tokens are set and 0.0.0.0 can be reached",
        ),
        ({"environment": "prod", "allow_open": True}, "auth is none, and the environment is prod"),
        (
            {
                "environment": "prod",
                "auth": "tokens",
                "development_tokens": ("dev:predict:test",),
                "allow_open": True,
            },
            "development_tokens are set, and the environment is prod",
        ),
        ({"auth": "tokens", "tokens": ("shop:predict:plain",)}, "is not the SHA-256"),
        ({"ssl_certfile": "/nowhere.crt"}, "ssl_keyfile is not set"),
        (
            {"ssl_certfile": "/nowhere.crt", "ssl_keyfile": "/nowhere.key"},
            r"/nowhere\.crt cannot be read",
        ),
    ],
)
def test_a_server_that_is_not_safe_to_start_is_not_started(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    given = {"tokens_file": str(tmp_path / "tokens.json"), **settings}

    async def scenario() -> None:
        async with serving(FakeFollower(tmp_path), **given):
            raise AssertionError("it was started")

    with pytest.raises(SettingsError, match=message):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0", "allow_open": True},
        {"auth": "tokens", "development_tokens": ("dev:predict:test-token",)},
        {"host": "0.0.0.0", "auth": "tokens", "tokens": (f"shop:predict:{'0' * 64}",)},
        {"environment": "prod", "auth": "tokens", "tokens": (f"shop:predict:{'0' * 64}",)},
        {
            "host": "0.0.0.0",
            "auth": "tokens",
            "development_tokens": ("dev:predict:test-token",),
            "allow_open": True,
        },
    ],
)
def test_a_server_that_is_meant_to_be_as_it_is_may_listen(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    given = Settings(port=0, tokens_file=str(tmp_path / "tokens.json"), **settings)
    supervisor = Supervisor(settings=given, follower=FakeFollower(tmp_path), app_name="a")
    supervisor.bind()
    assert supervisor.address[1] != 0
    supervisor._listener.close()


def test_a_target_knows_its_fallback_file_and_what_it_has_to_fit() -> None:
    settings = Settings(models={"one": ModelSettings(fallback_path="/srv/one.pkl")})
    one, two = app_targets(APP, settings)
    assert (one.fallback_path, two.fallback_path) == ("/srv/one.pkl", "")
    assert (one.request, one.task) == ((Column("x"),), "regression")


def test_without_an_app_a_fallback_file_only_has_to_be_of_the_model() -> None:
    settings = Settings(models={"iris": ModelSettings(fallback_path="/srv/iris.pkl")})
    target = registered_target("iris", settings)
    assert (target.fallback_path, target.request, target.task) == ("/srv/iris.pkl", (), "")
