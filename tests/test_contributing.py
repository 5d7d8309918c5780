"""The contributor's files say what is so."""

import re
from pathlib import Path

import yaml

import dkp

ROOT = Path(__file__).parents[1]


def test_the_hooks_run_what_make_lint_runs():
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in lint[1].splitlines()]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    assert [hook["entry"] for hook in hooks[0]["hooks"]] == commands


def test_citation_and_changelog_know_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == dkp.__version__
    assert citation["license"] == "Apache-2.0"
    assert f"## {dkp.__version__}" in (ROOT / "docs" / "changelog.md").read_text()


def test_files_that_the_page_names_exist():
    page = (ROOT / "docs" / "contributing.md").read_text()
    named = [*re.findall(r"`((?:dkp|tests|configs)/[\w/.-]+)`", page)]
    linked = [f"docs/{name}" for name in re.findall(r"\]\(([\w-]+\.md)\)", page)]
    assert len(named) > 8
    for name in named + linked:
        assert (ROOT / name).exists(), name
