"""Settings: which source wins, and errors that name where a wrong one stands."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from greenroom.cli.durations import read_duration
from greenroom.errors import SettingsError
from greenroom.settings import ModelSettings
from greenroom.settings_file import SettingsFile
from greenroom.settings_sources import load_settings


def read(folder: Path, **options):
    return load_settings(folder, **({"environment": {}} | options))


def test_the_later_source_wins(tmp_path):
    (tmp_path / "greenroom.yaml").write_text("port: 1001\nworkers: 2\nhost: 127.0.0.2\n")

    settings = read(
        tmp_path,
        environment={"GREENROOM_PORT": "1002", "GREENROOM_WORKERS": "3"},
        options={"port": 1003, "workers": None},
    )

    assert (settings.host, settings.workers, settings.port) == ("127.0.0.2", 3, 1003)


def test_home_is_inside_the_apps_folder_unless_it_is_given(tmp_path):
    assert read(tmp_path).home == str(tmp_path / ".greenroom")
    assert read(tmp_path, environment={"GREENROOM_HOME": "/elsewhere"}).home == "/elsewhere"


def test_a_rule_with_a_threshold_is_switched_off_by_null_in_the_file_and_in_a_variable(tmp_path):
    assert read(tmp_path).alert_registry_s == 600.0
    environment = {"GREENROOM_ALERT_REGISTRY_S": "null"}
    assert read(tmp_path, environment=environment).alert_registry_s is None
    (tmp_path / "greenroom.yaml").write_text("alert_registry_s: null\n")
    assert read(tmp_path).alert_registry_s is None


def test_a_secrets_file_is_below_home(tmp_path):
    settings = read(tmp_path, environment={"GREENROOM_ALERT_WEBHOOK_SECRET_FILE": "secret"})
    assert settings.alert_webhook_secret_file == str(tmp_path / ".greenroom" / "secret")


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("alert_response_time_ms", "60000"),  # beyond the last bucket of the histogram
        ("alert_webhook_url", "hooks.example"),
        ("alertmanager_url", "ftp://manager"),
        ("monitor_window", "a day"),
    ],
)
def test_a_setting_of_alerts_that_could_do_nothing_is_refused(tmp_path, setting, text):
    with pytest.raises(SettingsError, match=f"GREENROOM_{setting.upper()}"):
        read(tmp_path, environment={f"GREENROOM_{setting.upper()}": text})


def test_the_window_of_a_servers_runs_has_every_unit_that_the_command_knows(tmp_path):
    for window in ("90s", "30m", "24h", "7d", "2w"):
        settings = read(tmp_path, environment={"GREENROOM_MONITOR_WINDOW": window})
        assert read_duration(settings.monitor_window, "--window") > timedelta(0)


def test_mlflows_own_variable_names_the_tracking_server(tmp_path):
    environment = {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert read(tmp_path, environment=environment).tracking_uri == "http://mlflow:5000"


def test_an_app_maps_documented_variables_to_settings(tmp_path):
    settings = read(
        tmp_path,
        environment={"PORT": "5001", "MLFLOW_MODEL_STAGE": "Staging"},
        documented={"PORT": "port", "MLFLOW_MODEL_STAGE": "models.credit-risk-model.serve"},
    )

    assert settings.port == 5001
    assert settings.models == {"credit-risk-model": ModelSettings(serve="Staging")}


DOCUMENTED = SettingsFile(
    "config/api.yaml",
    {
        "api.port": "port",
        "api.host": "host",
        "mlflow.tracking_uri": "tracking_uri",
        "mlflow.model.stage": "models.m.serve",
        "mlflow.batch_size": "mlflow_batch_size",
        "mlflow.thresholds.error_rate_percent": "alert_error_rate_percent",
    },
)


def write_documented(folder: Path, text: str) -> None:
    (folder / "config").mkdir()
    (folder / "config" / "api.yaml").write_text(text)


def test_a_documented_file_is_below_every_source_but_the_defaults(tmp_path):
    write_documented(
        tmp_path,
        "api: {port: 1, host: 127.0.0.2}\n"
        "mlflow:\n  tracking_uri: http://file:1\n  batch_size: 7\n  model: {stage: Staging}\n",
    )
    (tmp_path / "greenroom.yaml").write_text("port: 2\nhost: 127.0.0.3\n")

    settings = read(
        tmp_path,
        documented_file=DOCUMENTED,
        documented={"STAGE": "models.m.serve"},
        environment={
            "GREENROOM_PORT": "3",
            "MLFLOW_TRACKING_URI": "http://environment:1",
            "STAGE": "Production",
        },
    )

    assert settings.port == 3
    assert settings.host == "127.0.0.3"
    assert settings.tracking_uri == "http://environment:1"
    assert settings.models == {"m": ModelSettings(serve="Production")}
    assert settings.mlflow_batch_size == 7


def test_a_documented_file_that_is_absent_sets_nothing(tmp_path):
    assert read(tmp_path, documented_file=DOCUMENTED) == read(tmp_path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("api: {prot: 1}\nother: 2\n", "no key api.prot; there is no key other"),
        ("mlflow: {model: Production}\n", "mlflow.model must hold keys, not a value"),
        ("mlflow: {batch_size: 0}\n", "mlflow.batch_size: Expected `int` >= 1"),
        ("mlflow: {batch_size: many}\n", "mlflow.batch_size: Expected `int`"),
        ("mlflow: {thresholds: {error_rate_percent: 101}}\n", "thresholds.error_rate_percent:"),
        ("- api\n", "holds no settings"),
        ("api: [\n", "cannot be read as YAML"),
    ],
)
def test_a_wrong_key_or_value_of_a_documented_file_is_named_with_the_file(tmp_path, text, named):
    write_documented(tmp_path, text)

    with pytest.raises(SettingsError, match=re.escape(named)) as caught:
        read(tmp_path, documented_file=DOCUMENTED)
    assert str(tmp_path / "config" / "api.yaml") in caught.value.message


def test_name_and_selector_of_a_model_come_from_different_sources(tmp_path):
    (tmp_path / "greenroom.yaml").write_text("models:\n  m:\n    name: other\n")

    settings = read(
        tmp_path, environment={"STAGE": "@champion"}, documented={"STAGE": "models.m.serve"}
    )

    assert settings.models["m"] == ModelSettings(name="other", serve="@champion")


def test_an_empty_variable_counts_as_not_set(tmp_path):
    assert read(tmp_path, environment={"GREENROOM_PORT": ""}).port == 8000


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"GREENROOM_PORT": "many"}, "GREENROOM_PORT"),
        ({"GREENROOM_PORT": "70000"}, "GREENROOM_PORT"),
        ({"GREENROOM_POLL_INTERVAL_S": "0"}, "GREENROOM_POLL_INTERVAL_S"),
        ({"GREENROOM_PROT": "8000"}, "GREENROOM_PROT"),
        ({"GREENROOM_AUTH": "perhaps"}, "GREENROOM_AUTH"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path, environment, named):
    with pytest.raises(SettingsError, match=named):
        read(tmp_path, environment=environment)


@pytest.mark.parametrize("text", ["prot: 1\n", "port: [1]\n", "- port\n", "port: 1: 2\n"])
def test_a_wrong_file_is_named(tmp_path, text):
    (tmp_path / "greenroom.yaml").write_text(text)

    with pytest.raises(SettingsError, match=r"greenroom\.yaml"):
        read(tmp_path)


def test_a_file_that_is_asked_for_has_to_be_there(tmp_path):
    with pytest.raises(SettingsError, match=r"other\.yaml"):
        read(tmp_path, file=tmp_path / "other.yaml")


def test_a_wrong_option_of_the_command_line_is_named(tmp_path):
    with pytest.raises(SettingsError, match="command line"):
        read(tmp_path, options={"workers": 0})


def test_a_list_is_a_list_in_the_file_and_parts_between_commas_or_spaces_in_a_variable(tmp_path):
    (tmp_path / "greenroom.yaml").write_text("cors_origins: [https://a.example, '*']\n")
    assert read(tmp_path).cors_origins == ("https://a.example", "*")

    environment = {"GREENROOM_CORS_ORIGINS": "https://b.example, http://localhost:3000"}
    settings = read(tmp_path, environment=environment)
    assert settings.cors_origins == ("https://b.example", "http://localhost:3000")


@pytest.mark.parametrize("origin", ["a.example", "https://a.example/", "https://*.a.example/x", ""])
def test_what_is_no_origin_is_refused(tmp_path, origin):
    with pytest.raises(SettingsError, match="cors_origins"):
        read(tmp_path, options={"cors_origins": [origin]})


def test_the_tokens_file_is_in_the_home_folder_and_certificates_in_the_apps(tmp_path):
    settings = read(tmp_path, options={"ssl_certfile": "tls.crt", "ssl_keyfile": "/etc/tls.key"})
    assert settings.tokens_file == str(tmp_path / ".greenroom" / "tokens.json")
    assert settings.ssl_certfile == str(tmp_path / "tls.crt")
    assert settings.ssl_keyfile == "/etc/tls.key"
    elsewhere = read(tmp_path, options={"tokens_file": "/run/secrets/tokens.json"})
    assert elsewhere.tokens_file == "/run/secrets/tokens.json"
    assert read(tmp_path).ssl_certfile == ""


@pytest.mark.parametrize("text", ["prod", "PROD", "Prod"])
def test_a_word_of_a_setting_may_be_in_capitals_in_a_variable(tmp_path, text):
    given = {"ENV": text, "GREENROOM_LOG_LEVEL": "debug"}
    settings = read(tmp_path, documented={"ENV": "environment"}, environment=given)
    assert (settings.environment, settings.log_level) == ("prod", "DEBUG")


def test_a_word_that_a_setting_does_not_have_is_named(tmp_path):
    with pytest.raises(SettingsError, match="ENV: Invalid enum value 'test'"):
        read(tmp_path, documented={"ENV": "environment"}, environment={"ENV": "test"})


def test_a_fallback_file_is_in_the_apps_folder_where_it_is_not_said_elsewhere(tmp_path):
    (tmp_path / "greenroom.yaml").write_text(
        "models: {m: {fallback_path: models/model.pkl}, n: {fallback_path: /srv/n.pkl}, o: {}}"
    )
    models = read(tmp_path).models
    assert models["m"].fallback_path == str(tmp_path / "models" / "model.pkl")
    assert models["n"].fallback_path == "/srv/n.pkl"
    assert models["o"].fallback_path == ""


def test_a_documented_variable_names_the_fallback_file(tmp_path):
    settings = read(
        tmp_path,
        environment={"MODEL_PATH": "other/model.pkl"},
        documented={"MODEL_PATH": "models.m.fallback_path"},
    )
    assert settings.models["m"].fallback_path == str(tmp_path / "other" / "model.pkl")
