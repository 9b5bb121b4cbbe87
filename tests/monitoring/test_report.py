"""The report: one small file that stands alone, keeps questions apart, and names nobody."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest
from made_up import CALIBRATION, HOSTILE, PERSONAL, category, found, number, performance

from greenroom.findings import Distribution
from greenroom.monitoring import charts
from greenroom.monitoring.report import MOST_BYTES, Entry, render
from greenroom.monitoring.report_figures import draw
from greenroom.monitoring.trend import point_of

VOID = {"meta", "br"}


class Page(HTMLParser):
    """What of a page matters: that it is well-formed, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.labels: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        said = dict(attrs)
        self.tags.append(tag)
        self.ids += [said["id"]] if "id" in said else []
        self.labels += [said["aria-label"]] if tag == "svg" else []
        self.addresses += [said[name] for name in ("src", "href", "xlink:href") if name in said]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def text():
    findings = found(
        number("age", drifted=True),
        category(f"home {HOSTILE}"),
        performance=performance(
            0.7, worse=True, concept_drifted=True, calibration=(CALIBRATION,), notes=("`code`",)
        ),
        estimate=performance(0.84, estimated=True),
        notes=(f"a note with {HOSTILE}",),
    )
    earlier = msgspec.structs.replace(point_of(findings), at="2026-11-20T12:00:00Z")
    return render([Entry(findings, draw(findings, [earlier, point_of(findings)]))])


def test_it_is_well_formed_and_every_id_is_there_once(text):
    page = Page(text)
    assert not page.open
    assert len(page.ids) == len(set(page.ids))
    referred = set(re.findall(r"url\(#([^)]+)\)", text))
    referred |= {address[1:] for address in page.addresses}
    assert referred <= set(page.ids)


def test_nothing_in_it_is_fetched_or_run(text):
    page = Page(text)
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert all(address.startswith("#") for address in page.addresses)
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_names_and_labels_of_any_text_are_harmless(text):
    assert HOSTILE not in text
    assert any(HOSTILE in said for said in Page(text).texts)
    assert "<code>code</code>" in text


def test_a_value_that_the_reference_does_not_have_is_counted_and_not_named(text):
    assert PERSONAL not in text
    assert charts.NOT_IN_REFERENCE in text


def test_what_moved_and_what_to_do_stand_before_tables_and_these_before_figures(text):
    places = [
        text.index(mark)
        for mark in ("Found: data drift", "What to do next", "<h2>Data drift", "<h2>Run by run")
    ]
    assert places == sorted(places)
    for title in ("Data drift", "Prediction drift", "Performance", "Concept drift"):
        assert f"<h2>{title}</h2>" in text
    assert "Estimated, not observed" in text


def test_every_figure_says_what_it_shows_to_who_does_not_see_it(text):
    page = Page(text)
    n_figures = page.tags.count("figure")
    assert n_figures == len(page.labels) == 3 + 3 + 1
    assert "The distribution of age in the reference and now: it has moved." in page.labels
    assert all(page.labels)


def test_it_is_dark_where_the_page_is_and_light_on_paper(text):
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    drawn = text[text.index("<svg") :]
    assert "var(--ink)" in drawn
    assert "#22303c" not in drawn


def test_of_fifty_columns_it_is_below_a_megabyte():
    bins = 20
    spread = Distribution(
        edges=tuple(place / 7 for place in range(bins + 1)),
        reference=(1 / bins,) * bins,
        current=(1 / bins,) * bins,
    )
    shown = msgspec.structs.replace(number("a", drifted=True), distribution=spread)
    svg = draw(found(shown))[-1]
    columns = [msgspec.structs.replace(shown, column=f"column_{n}") for n in range(50)]
    figures = [svg] * 50
    size = len(render([Entry(found(*columns), figures)]).encode())
    assert 100_000 < size < MOST_BYTES


def test_figures_that_there_is_no_room_for_are_counted():
    (drawn,) = (one for one in draw(found(number("age"))) if one.section == "features")
    text = render([Entry(found(), [drawn] * 200)])
    assert len(text.encode()) < MOST_BYTES
    left_out = int(re.search(r"(\d+) more columns are not drawn", text)[1])
    assert left_out + text.count("<figure") == 200


def test_a_label_is_shortened_and_begins_no_formula():
    spread = Distribution(labels=("$x^2$", "y" * 60), reference=(0.5, 0.5), current=(0.5, 0.5))
    drawn = charts.svg(charts.distribution(spread, drifted=False)).decode()
    assert "$x^2$" in drawn
    assert "y" * 60 not in drawn


def test_the_same_findings_are_the_same_bytes():
    assert draw(found())[0].svg == draw(found())[0].svg
