"""``GET /models/status``: what it says of a model that is loaded, and of one that is not."""

from __future__ import annotations

from pathlib import Path

from greenroom import Status
from greenroom.app_loading import load_app
from greenroom.status import ModelStatus, RegistryStatus, VersionStatus

FOLDER = Path(__file__).parent.parent


def _page(*models: ModelStatus) -> dict:
    (route,) = [one for one in load_app(FOLDER).routes if one.path == "/models/status"]
    registry = RegistryStatus(
        uri="http://mlflow:5000", state="healthy", since="2026-11-21T10:00:00Z"
    )
    started = "2026-11-21T10:00:00Z"
    status = Status(
        app="titans-finance",
        greenroom_version="0",
        started_at=started,
        registry=registry,
        models=models,
    )
    return dict(route.view(status))


def test_a_model_that_is_loaded_says_which_version_it_is_and_how_good():
    serving = VersionStatus(
        version="3",
        stage="Production",
        run_id="r",
        runtime="compiled",
        generated_data=True,
        metrics={"accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95},
    )
    page = _page(
        ModelStatus(name="m", selector="Production", route="/predict/category", serving=serving)
    )

    assert (page["status"], page["models_loaded"]) == ("healthy", 1)
    model = page["models"]["m"]
    assert (model["version"], model["stage"], model["runtime"]) == ("3", "Production", "compiled")
    assert model["generated_data"]
    assert model["metrics"] == {"accuracy": 0.9}


def test_a_model_that_is_not_loaded_says_why():
    problem = "No model in Production stage"
    page = _page(ModelStatus(name="m", selector="Production", route="/p", problems=(problem,)))

    assert (page["status"], page["models_loaded"]) == ("unhealthy", 0)
    assert page["models"]["m"]["loaded"] is False
    assert page["models"]["m"]["problems"] == [problem]


def test_the_page_needs_no_token_as_documented():
    (route,) = [one for one in load_app(FOLDER).routes if one.path == "/models/status"]

    assert route.scope == "open"
