"""The page about the documented systems names tests that exist, and leaves no command out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "systems.md").read_text(encoding="utf-8")
DOCUMENTS = ROOT.parent / "shared" / "systems"
SHORT = dict(re.findall(r"`(\w+)::` is `([\w/.]+)`", PAGE))
BLOCK = re.compile(r"^\s*```bash\n(.*?)^\s*```", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"\s+#.*")


def _sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)\n", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


SECTIONS = _sections()
SYSTEMS = [name for name in SECTIONS if (ROOT / "apps" / name).is_dir()]


def _rows() -> list[list[str]]:
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in PAGE.splitlines()
        if line.startswith("| ") and not line.startswith("| line |")
    ]


def _named_tests() -> list[str]:
    return sorted({name for row in _rows() for name in re.findall(r"`([^`]+)`", row[-1])})


def test_there_is_a_section_for_every_app_that_replaces_a_documented_system():
    stacks = {path.parent.name for path in ROOT.glob("apps/*/docker-compose.yml")}

    assert stacks == set(SYSTEMS)


@pytest.mark.parametrize("name", _named_tests())
def test_a_test_that_the_page_names_exists(name):
    file, _, function = name.partition("::")
    path = ROOT / SHORT.get(file, file)

    assert path.is_file(), path
    if function:
        assert re.search(rf"^def {function}\(", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_row_has_a_test():
    assert len(_rows()) > 50
    for line, _, tests in _rows():
        assert tests.startswith("`"), line


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_command_of_a_document_stands_in_its_section(system):
    document = DOCUMENTS / f"{system}.md"
    if not document.exists():
        pytest.skip(f"{document} is not on this machine")
    section = SECTIONS[system].replace("\\|", "|")
    missing = [
        command
        for command in _commands(document.read_text(encoding="utf-8"))
        if f"`{command}`" not in section
    ]

    assert missing == []


def _commands(document: str) -> list[str]:
    """Return the shell commands of a document; a request's body is shown as ``{...}``."""
    commands = []
    for block in BLOCK.findall(document):
        if block.startswith("bash#!/bin/bash"):
            continue  # a whole script, which a file of the app holds
        text = re.sub(r"\\\n\s*", "", block)
        text = re.sub(r"'\{.*?\}'", "'{...}'", text, flags=re.DOTALL)
        for line in text.splitlines():
            # "bash" sticks to some lines of the document, where its fence lost a line break.
            command = COMMENT.sub("", f" {line.strip()}").strip().removeprefix("bash")
            # Of a request that is shown without a client, its first line is the command.
            if command and not command.startswith(("Content-Type:", "{", "}", '"')):
                commands.append(command)
    return commands


def test_the_commands_of_a_document_are_read_as_its_reader_would():
    text = "```bash\n# why\ncurl -X POST url \\\n  -d '{\n \"a\": 1\n}'\nls  # see\n```\n"

    assert _commands(text) == ["curl -X POST url -d '{...}'", "ls"]
