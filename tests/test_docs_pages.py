"""``/docs`` and ``/redoc`` as a person has them, in a browser that reaches this machine alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import browser
from app_versions import APPS, app_version, version_of_every_kind
from greenroom.app_loading import load_app
from real_server import deployed, served

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module", params=["credit_risk", "every kind"])
def url(request, tmp_path_factory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("version") / "1"
    if request.param == "every kind":
        version_of_every_kind(directory)
        with served(deployed(directory)) as address:
            yield address
    else:
        folder = APPS / request.param
        app_version(request.param, directory)
        model = load_app(folder).model().name
        with served(deployed(directory, model), app_folder=folder) as address:
            yield address


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[browser.Page]:
    with browser.page(tmp_path / "profile") as opened:
        yield opened


def nothing_is_wrong(tab: browser.Page, url: str) -> None:
    assert tab.problems == []
    elsewhere = [
        asked for asked in tab.requested if not asked.startswith((f"{url}/", "data:", "blob:"))
    ]
    assert elsewhere == []
    assert f"{url}/openapi.json" in tab.requested


def operation(path: str) -> str:
    """Return the script that finds an operation's part of Swagger UI."""
    # It adds a character to paths, after which they may break; data-path is the path as it is.
    return f"document.querySelector('[data-path=\"{path}\"]')?.closest('.opblock')"


def status_when_pressed(tab, found: str) -> str:
    """Press Execute and return the status that is shown.

    Swagger UI forgets a press that comes while it still draws what it read: then once more.
    """
    cell = f"{found}.querySelector('.live-responses-table tbody .response-col_status')"
    for _ in range(5):
        tab.evaluate(f"{found}.querySelector('.execute')?.click()")
        try:
            return tab.wait_for(f"({cell} || {{}}).textContent", within_s=5)
        except AssertionError:
            continue
    return "nothing"


@pytest.mark.parametrize("path", ["/predict", "/invocations", "/health"])
def test_an_example_is_sent_as_it_stands_and_answered(tab, url, path):
    tab.open(f"{url}/docs")
    found = operation(path)
    tab.wait_for(f"Boolean({found})")
    tab.evaluate(f"{found}.querySelector('.opblock-summary-control').click()")
    tab.wait_for(f"Boolean({found}.querySelector('.execute'))")
    if path != "/health":
        tab.wait_for(f"({found}.querySelector('textarea') || {{}}).value")
    assert status_when_pressed(tab, found) == "200"
    assert f"{url}{path}" in tab.requested
    nothing_is_wrong(tab, url)


def test_redoc_shows_every_field_of_a_request(tab, url):
    tab.open(f"{url}/redoc")
    tab.wait_for("document.querySelectorAll('[data-section-id]').length > 5")
    text = tab.evaluate("document.body.textContent")
    row = next(
        schema
        for name, schema in _document(url)["components"]["schemas"].items()
        if name.endswith(".Row")
    )
    assert [name for name in row["properties"] if name not in text] == []
    nothing_is_wrong(tab, url)


def _document(url: str) -> dict:
    return httpx.get(f"{url}/openapi.json").json()
