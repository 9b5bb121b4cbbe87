import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.errors import AppError
from greenroom.selector import STAGES, Selector

aliases = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True).filter(
    lambda text: text.lower() != "latest" and not (text[0] in "vV" and text[1:].isdigit())
)
selectors = st.one_of(
    st.sampled_from(STAGES[1:]),
    aliases.map("@{}".format),
    st.just("latest"),
    st.integers(1, 10**9).map(str),
)


@given(selectors)
def test_a_selector_is_written_as_it_is_read(text):
    selector = Selector.parse(text)
    assert str(selector) == text
    assert Selector.parse(str(selector)) == selector


@given(st.text())
def test_any_text_is_read_or_refused_with_what_there_is(text):
    try:
        advice = ""
        selector = Selector.parse(text)
    except AppError as refused:
        advice = refused.advice
        selector = Selector("latest", "latest")
    assert "@alias" in advice or selector.value.lower() in text.lower()


@pytest.mark.parametrize(
    "text",
    [
        *("", "@", "@latest", "@v1", "@V22", "@a b", "@a\n", "None", "none", "0", "-1", "1.0"),
        *("٣", "²", "champion", "Latest", " 1", "1\n", "9" * 5000),
    ],
)
def test_what_selects_nothing_is_refused(text):
    with pytest.raises(AppError, match="selects nothing"):
        Selector.parse(text)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("production", "stage", "Production"),
        ("STAGING", "stage", "Staging"),
        ("007", "version", "7"),
        ("@Champion", "alias", "Champion"),
        ("@v1beta", "alias", "v1beta"),
        ("latest", "latest", "latest"),
    ],
)
def test_a_selector_is_read(text, kind, value):
    assert Selector.parse(text) == Selector(kind, value)


@pytest.mark.parametrize(
    ("text", "movable", "mirror"),
    [
        ("Production", True, "@production"),
        ("Staging", True, "@staging"),
        ("Archived", False, None),
        ("@production", True, "Production"),
        ("@champion", True, None),
        ("@archived", True, None),
        ("latest", False, None),
        ("3", False, None),
    ],
)
def test_a_promotion_moves_stages_in_use_and_aliases_and_writes_their_mirror(text, movable, mirror):
    selector = Selector.parse(text)
    assert selector.movable is movable
    assert (str(selector.mirror) if selector.mirror else None) == mirror


@given(selectors.map(Selector.parse))
def test_a_mirror_is_of_the_other_kind_and_mirrors_back(selector):
    mirror = selector.mirror
    if mirror is not None:
        assert {selector.kind, mirror.kind} == {"stage", "alias"}
        assert mirror.mirror is not None
        assert mirror.mirror.value.lower() == selector.value.lower()
