"""The documentation is complete and runs: settings, commands, Python blocks, links, spelling of
names that exist.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

import greenroom
from greenroom.cli import cli
from greenroom.settings import setting_descriptions

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("apps/**/*.md")]
    if ".greenroom" not in path.parts
)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#]+)")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_setting_stands_in_the_settings_page_with_its_description():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")

    for name, (description, _) in setting_descriptions().items():
        assert f"| `{name}` |" in page
        assert description in page, name


def test_no_setting_is_documented_that_does_not_exist():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")

    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert documented == set(setting_descriptions())


def _commands() -> dict[str, click.Command]:
    """Return every command by its words: ``token add`` stands for itself."""
    found = {}
    for name, command in cli.commands.items():
        if isinstance(command, click.Group):
            found |= {f"{name} {word}": part for word, part in command.commands.items()}
        else:
            found[name] = command
    return found


def test_every_command_and_every_option_stands_in_the_commands_page():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")

    for name, command in _commands().items():
        assert f"`greenroom {name}" in page, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                for flag in parameter.opts:
                    assert flag in page, f"{name} {flag}"


@pytest.mark.parametrize("name", sorted(_commands()))
def test_every_command_explains_itself(name):
    with click.Context(_commands()[name], info_name=name) as context:
        text = _commands()[name].get_help(context)

    assert len(text.splitlines()) > 3


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_links_between_pages_lead_somewhere(path):
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def _blocks() -> list[object]:
    return [
        pytest.param(block, id=f"{_name(path)}-{number}")
        for path in PAGES
        for number, block in enumerate(PYTHON.findall(path.read_text(encoding="utf-8")))
    ]


@pytest.mark.parametrize("block", _blocks())
def test_python_blocks_run(block):
    exec(compile(block, "documentation", "exec"), {"__name__": "documentation"})


def _shell_lines() -> list[object]:
    lines = []
    for path in PAGES:
        for block in CONSOLE.findall(path.read_text(encoding="utf-8")):
            lines += [
                pytest.param(line[2:], id=f"{_name(path)}: {line[2:50]}")
                for line in block.splitlines()
                if line.startswith("$ ")
            ]
    return lines


@pytest.mark.parametrize("line", _shell_lines())
def test_shell_lines_call_things_that_exist(line):
    """What a line starts is run where the page's own test runs; here its words are checked."""
    words = shlex.split(line)
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{words[1] if len(words) > 1 else 'help'}:", makefile, re.MULTILINE)
    elif words[0].endswith("greenroom"):
        count = 3 if " ".join(words[1:3]) in _commands() else 2
        name = " ".join(words[1:count])
        with _commands()[name].make_context(name, [*words[count:]], resilient_parsing=False):
            pass
    else:
        assert words[0] in {"curl", "git", "cd"}, line


def test_bare_make_lists_every_target():
    listed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split():
        assert f"make {target}" in listed, target


def test_what_the_package_exports_is_what_it_says_it_exports():
    assert sorted(greenroom.__all__) == greenroom.__all__
    for name in greenroom.__all__:
        assert getattr(greenroom, name).__doc__, name


def test_the_changelog_names_the_version_or_what_is_not_released_yet():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert f"## [{greenroom.__version__}]" in text or "## [Unreleased]" in text
