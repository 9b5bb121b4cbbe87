"""What goes into an image, and what its small programs do, without an engine."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from certificates import write_certificate

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
APPS = sorted(ROOT.glob("apps/*/docker-compose.yml"))


def _pins(path: Path) -> dict[str, set[tuple[str, str]]]:
    """Return what a lock pins: by name, its versions, each with its hashes."""
    pins: dict[str, set[tuple[str, str]]] = {}
    for name, version, rest in PINNED.findall(path.read_text(encoding="utf-8")):
        hashes = " ".join(sorted(re.findall(r"sha256:\w+", rest)))
        pins.setdefault(name.lower().replace("_", "-"), set()).add((version, hashes))
    return pins


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", text)[0].lower() for text in requirements}


def test_what_an_image_installs_is_what_was_tested_to_the_last_hash():
    tested, installed = _pins(ROOT / "requirements.lock"), _pins(DEPLOY / "requirements.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    servers = _names(extras["postgres"]) | _names(extras["basic-auth"]) | {"wtforms"}

    for name in installed.keys() - tested.keys():
        assert any(name.startswith(server) for server in servers), f"{name}: make lock"
    for name in installed.keys() & tested.keys():
        assert installed[name] <= tested[name], f"{name}: make lock-image"


def test_an_image_holds_every_runtime_dependency_and_no_development_tool():
    installed = _pins(DEPLOY / "requirements.lock").keys()
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = _names(document["project"]["dependencies"])

    assert wanted <= installed
    tools = _names(document["dependency-groups"]["dev"]) - wanted
    assert not tools & installed


def test_every_pin_of_an_image_has_a_hash_and_names_no_index():
    for lock in ("requirements.lock", "build.lock"):
        text = (DEPLOY / lock).read_text(encoding="utf-8")
        assert all(hashes for pins in _pins(DEPLOY / lock).values() for _, hashes in pins)
        assert "index-url" not in text
        assert "://" not in text


def test_the_image_ends_as_a_user_without_rights():
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()

    users = [line for line in lines if line.startswith("USER")]
    assert users == ["USER 1000:1000", "USER 0:0", "USER 1000:1000"]  # root while it is built alone
    bases = {line.split()[1] for line in lines if line.startswith("FROM")}
    assert bases <= {"python:3.11-slim-bookworm", "dependencies", "greenroom"}


@pytest.mark.parametrize("path", APPS, ids=lambda path: path.parent.name)
def test_an_app_composes_shared_services_alone_and_says_that_it_is_open(path):
    shared = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))["services"]
    services = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]

    for name, service in services.items():
        assert service["extends"]["file"] == "../../deploy/compose.yml", name
        assert service["extends"]["service"] in shared, name
    serving = [one for one in services.values() if one["extends"]["service"] == "api"]
    assert all(one["environment"]["GREENROOM_ALLOW_OPEN"] == "1" for one in serving)
    assert len(serving) == 1


@pytest.mark.parametrize("path", APPS, ids=lambda path: path.parent.name)
def test_every_service_of_an_app_builds_the_app_of_its_own_folder(path):
    services = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]

    built = {one["build"]["args"]["APP"] for one in services.values() if "build" in one}
    assert built == {path.parent.name}


def test_mlflow_is_reached_under_every_service_name_that_a_stack_gives_it():
    shared = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))["services"]
    hosts = shared["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"]
    allowed = {host.strip() for host in hosts.split(",")}

    for path in APPS:
        services = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]
        for name, service in services.items():
            if service["extends"]["service"] == "mlflow":
                for host in filter(None, (name, service.get("container_name"))):
                    assert {host, f"{host}:*"} <= allowed


def test_grafanas_data_source_is_the_prometheus_of_the_stack():
    folder = DEPLOY / "grafana" / "provisioning" / "datasources"
    (path,) = folder.glob("*.yml")
    (source,) = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    shared = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))["services"]

    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert source["type"] == "prometheus"
    assert shared[host]["ports"] == [f"127.0.0.1:{port}:{port}"]


class _Health(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize(("status", "ended"), [(200, 0), (503, 1)])
def test_the_health_check_ends_with_what_health_says(status, ended):
    handler = type("_", (_Health,), {"status": status})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        done = _health_check({"PORT": str(server.server_port), "GREENROOM_PORT": "1"})
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert done.returncode == ended


def test_the_health_check_says_in_one_line_that_nothing_answers():
    done = _health_check({"GREENROOM_PORT": "1"})

    assert done.returncode == 1
    assert done.stderr.startswith("nothing answers: ")
    assert len(done.stderr.splitlines()) == 1


def _health_check(environment):
    return subprocess.run(
        [sys.executable, "-I", "-S", str(DEPLOY / "healthcheck.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def _start(home, *words, **environment):
    return subprocess.run(
        [str(DEPLOY / "start"), *words],
        env={"PATH": os.environ["PATH"], "GREENROOM_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_port_of_a_platform_becomes_the_servers_setting(tmp_path):
    with_one = _start(tmp_path, "sh", "-c", "echo $GREENROOM_PORT", PORT="8080")
    without = _start(tmp_path, "sh", "-c", "echo $GREENROOM_PORT", GREENROOM_PORT="9000")

    assert (with_one.stdout, without.stdout) == ("8080\n", "9000\n")


def test_a_container_makes_its_folder_and_becomes_the_program_it_starts(tmp_path):
    done = _start(tmp_path / "state", "sh", "-c", "exit 7")

    assert done.returncode == 7
    assert (tmp_path / "state").is_dir()


def test_a_folder_that_cannot_be_had_is_one_line_with_what_to_do(tmp_path):
    (tmp_path / "state").write_text("a file in its place")
    done = _start(tmp_path / "state", "echo", "started")

    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert f"{tmp_path / 'state'} cannot be written by user {os.getuid()}:{os.getgid()}" in line
    assert "sudo chown -R" in line


def test_a_profile_without_its_variables_is_ended_by_what_all_wait_for(tmp_path):
    def required(**environment: str) -> None:
        names = {"REQUIRES": "USER_NAME PASSWORD", "PATH": os.environ["PATH"]}
        command = [str(DEPLOY / "required"), str(tmp_path)]
        subprocess.run(command, env=names | environment, timeout=30, check=True)

    required(USER_NAME="ada")
    ended, again = _certificate(tmp_path, password=""), _certificate(tmp_path, password="")
    assert ended.returncode == 1
    assert ended.stderr.startswith("greenroom: PASSWORD not set, which the profile needs; ")
    assert again.returncode == 0  # without the profile, as for development
    assert list(tmp_path.iterdir()) == []

    required(USER_NAME="ada", PASSWORD="secret")
    assert _certificate(tmp_path, password="").returncode == 0


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://a:b@c/d", "postgresql+psycopg2://a:b@c/d"),
        ("postgresql+pg8000://a:b@c/d", "postgresql+pg8000://a:b@c/d"),
        ("sqlite:////app/mlflow/mlflow.db", "sqlite:////app/mlflow/mlflow.db"),
    ],
)
def test_mlflow_reaches_postgresql_by_the_driver_that_it_works_with(tmp_path, given, used):
    words = ("sh", "-c", "echo $MLFLOW_BACKEND_STORE_URI")

    assert _start(tmp_path, *words, MLFLOW_BACKEND_STORE_URI=given).stdout == f"{used}\n"


def test_mlflow_with_users_gets_a_key_for_their_pages_unless_there_is_one(tmp_path):
    words = ("sh", "-c", "echo $MLFLOW_FLASK_SERVER_SECRET_KEY")
    users = {"MLFLOW_AUTH_ADMIN_PASSWORD": "secret"}

    assert re.fullmatch(r"[0-9a-f]{64}\n", _start(tmp_path, *words, **users).stdout)
    kept = _start(tmp_path, *words, **users, MLFLOW_FLASK_SERVER_SECRET_KEY="mine")
    assert kept.stdout == "mine\n"
    assert _start(tmp_path, *words).stdout == "\n"


def _certificate(folder, names: str = "localhost api", password: str = "secret"):
    return subprocess.run(
        [str(DEPLOY / "certificate"), str(folder)],
        env={
            "PATH": os.environ["PATH"],
            "NAMES": names,
            "MLFLOW_TRACKING_PASSWORD": password,
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def openssl():
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl on this machine")


def test_a_certificate_is_made_once_for_every_name_and_its_key_is_private(tmp_path, openssl):
    first = _certificate(tmp_path)
    made = (tmp_path / "tls.crt").read_bytes()
    again = _certificate(tmp_path)

    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert (tmp_path / "tls.crt").read_bytes() == made
    names = x509.load_pem_x509_certificate(made).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost", "api"]
    assert (tmp_path / "tls.key").stat().st_mode & 0o777 == 0o600


def test_a_certificate_near_its_end_is_renewed_only_if_it_was_made_here(tmp_path, openssl):
    given = write_certificate(tmp_path)  # for a day
    before = given.certfile.read_bytes()
    assert _certificate(tmp_path).returncode == 0
    assert given.certfile.read_bytes() == before

    (tmp_path / "self-made").touch()
    assert _certificate(tmp_path).returncode == 0
    assert given.certfile.read_bytes() != before


def test_a_certificate_without_its_key_is_said(tmp_path, openssl):
    write_certificate(tmp_path).keyfile.unlink()
    done = _certificate(tmp_path)

    assert done.returncode == 1
    assert "tls.key cannot be read" in done.stderr


def test_what_is_trimmed_is_tests_headers_and_sources_and_numpys_stay(tmp_path):
    kept = ("numpy/_core/tests/_natype.py", "scipy/stats/norm.py", "sklearn/x.so")
    gone = (
        "scipy/stats/tests/t.py",
        "pandas/tests/a/t.py",
        "pyarrow/include/a.hpp",
        "sklearn/x.pyx",
    )
    for name in (*kept, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("12345")

    removed = _trim().trim(tmp_path)

    assert removed == 5 * len(gone)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        *kept
    }


def _trim():
    spec = importlib.util.spec_from_file_location("trim", DEPLOY / "trim.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_verification_script_stands_in_the_credit_app_and_can_be_started():
    script = ROOT / "apps" / "credit_risk" / "tests" / "verify_phase2.sh"
    text = script.read_text(encoding="utf-8")

    assert os.access(script, os.X_OK)
    assert text.startswith("#!/bin/bash\n")
    request = json.loads(re.search(r"-d '(\{.*?\})'", text, re.DOTALL)[1])
    assert request["MonthlyIncome"] == 9120.0
