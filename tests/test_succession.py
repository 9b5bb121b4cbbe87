"""A champion answers rows that came after its training, so that grown data can be judged."""

from __future__ import annotations

import numpy as np
import pytest

from greenroom.app_loading import forget_app, load_app
from greenroom.evaluation.evidence import read_holdout
from greenroom.promotion.promotion import history, promote
from greenroom.registry.registry import Registry
from greenroom.selector import Selector
from greenroom.settings_sources import load_settings
from greenroom.task import regression
from greenroom.training.release import train_and_release
from greenroom.versions.manifest import CHAMPION_FILE, read_manifest

PRODUCTION = Selector.parse("Production")
pytestmark = pytest.mark.slow

APP = """
from greenroom import App, Column, Gate, Model, Split, regression


def candidates(seed):
    from sklearn.linear_model import Ridge

    return {"ridge": Ridge(alpha=__ALPHA__)}


app = App(
    name="sample",
    experiment="succession",
    models=[
        Model(
            name="__NAME__",
            task=regression,
            dataset="data/rows.csv",
            target="sold",
            columns=[Column("at", "datetime"), Column("price")],
            features="features.py",
            candidates=candidates,
            split=Split(holdout=0.25, time="at"),
            folds=2,
            gate=Gate("r2_score"),
        )
    ],
)
"""
FEATURES = """
def features(columns):
    return {"price": columns["price"]}
"""


class Shop:
    """An app whose data grow day by day."""

    def __init__(self, folder, name, registry):
        self.folder, self.name, self.registry = folder, name, registry
        (folder / "data").mkdir()
        (folder / "features.py").write_text(FEATURES)

    def train(self, days, *, alpha=1.0, promotes=True):
        """Train on the hours from one day to another."""
        hours = np.arange(days[0] * 24, days[1] * 24)
        rng = np.random.default_rng(0)
        price = rng.uniform(1, 9, 2400)[hours]
        sold = 50 - 3 * price + rng.normal(0, 2, 2400)[hours]
        at = np.datetime64("2026-01-01T00", "h") + hours
        rows = [f"{a},{p},{s}" for a, p, s in zip(at, price, sold, strict=True)]
        (self.folder / "data" / "rows.csv").write_text("\n".join(["at,price,sold", *rows]))
        text = APP.replace("__NAME__", self.name).replace("__ALPHA__", str(alpha))
        (self.folder / "app.py").write_text(text)
        forget_app(self.folder)
        app = load_app(self.folder)
        uri = {"MLFLOW_TRACKING_URI": self.registry.uri}
        return train_and_release(
            app,
            app.model(),
            self.folder,
            settings=load_settings(self.folder, environment=uri),
            registry=self.registry,
            who="ada",
            promotes=promotes,
        )

    def files(self, version, folder):
        found = self.registry.version(self.name, version)
        for file in self.registry.files(found):
            self.registry.download(found, file.path, folder)
        return folder


@pytest.fixture(scope="module")
def registry(mlflow_server):
    with Registry(mlflow_server) as opened:
        yield opened


@pytest.fixture(scope="module")
def grown(registry, tmp_path_factory):
    """Trained on ten days, then on thirty, of which the last seven and a half are held out."""
    shop = Shop(tmp_path_factory.mktemp("shop"), "succession-grown", registry)
    return shop, shop.train((0, 10)), shop.train((0, 30))


def test_with_grown_data_both_are_judged_on_rows_later_than_either_training(grown):
    shop, first, second = grown

    record = history(shop.registry, shop.name)[-1]
    assert (first.outcome, second.outcome) == ("promoted", "promoted")
    assert record.independence == "after both trainings"
    assert record.n_rows == 180
    assert record.champion == pytest.approx(record.challenger, abs=0.05)


def test_the_champions_answers_travel_in_the_version_with_its_number(grown, tmp_path):
    shop, _, _ = grown
    folder = shop.files("2", tmp_path)

    manifest = read_manifest(folder)
    said = read_holdout(folder / CHAMPION_FILE)
    assert manifest.champion == "1"
    assert manifest.trained_until == "2026-01-23T11:00:00.000000Z"
    assert len(said) == manifest.n_holdout == 180


def test_a_version_trained_first_has_no_champion_to_ask(grown, tmp_path):
    shop, _, _ = grown
    folder = shop.files("1", tmp_path)

    assert read_manifest(folder).champion == ""
    assert not (folder / CHAMPION_FILE).exists()


def test_a_worse_challenger_on_grown_data_is_refused_by_its_figures(grown):
    shop, _, _ = grown
    refused = shop.train((0, 40), alpha=1e6)

    assert refused.outcome == "refused"
    assert "worse by" in refused.reasons[0]
    record = history(shop.registry, shop.name)[-1]
    assert record.independence == "after both trainings"


def test_a_candidate_of_older_data_is_refused_because_the_champion_has_seen_its_rows(grown):
    shop, _, _ = grown
    refused = shop.train((5, 15))

    assert refused.outcome == "refused"
    assert "only 0 rows are held out by both versions" in refused.reasons[0]
    assert refused.trained.comparison is None


def test_on_the_same_data_the_champion_is_not_asked_and_common_rows_decide(grown):
    shop, _, _ = grown
    equal = shop.train((0, 30))

    assert equal.trained.comparison is None
    assert equal.outcome == "promoted"
    assert history(shop.registry, shop.name)[-1].independence == "held out by both"


def test_a_candidate_can_be_promoted_later_without_data_as_long_as_the_champion_stays(
    registry, tmp_path
):
    shop = Shop(tmp_path, "succession-later", registry)
    shop.train((0, 10))
    waiting = shop.train((0, 30), promotes=False)
    assert waiting.outcome == "registered"

    gate = waiting.trained.model.gate
    options = {"selector": PRODUCTION, "gate": gate, "task": regression, "who": "bob"}
    promoted = promote(registry, shop.name, waiting.version, **options)

    assert promoted.judgement.independence == "after both trainings"
    assert (promoted.from_version, promoted.version) == ("1", "2")
