"""README and docs: every command is one, every import is there, every fenced block has a language."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml

from dkp.cli import main
from dkp.cli.commands import FUNCTIONS, described, parsed, spelled_out
from dkp.recipes import read_recipe
from dkp.runs.options import FURTHER, LIGHTNING, SHARED, capture_words, predicts_media, with_underscores

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)```([\w-]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
OTHERS = {"git", "cd", "cp", "pip", "source", "wandb", "dask", "if", "else", "fi", "docker/run.sh"}
"""Words that begin a line which is no command of dkp's."""
STARTERS = ("srun", "torchrun", "BUILDAH_ISOLATION=chroot")


def blocks(page: Path, language: str) -> list[str]:
    return [text for _, found, text in FENCE.findall(page.read_text()) if found == language]


def lines_of(page: Path) -> list[list[str]]:
    """The words of every command in a page's blocks of shell."""
    found = []
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                words = shlex.split(re.sub(r"(^|\s)#.*", "", part))
                if words and words[0] in STARTERS:
                    words = words[next(at for at, word in enumerate(words) if word in ("dkp", "make")) :]
                if words:
                    found.append([words[0].removeprefix(".venv/bin/"), *words[1:]])
    return found


COMMANDS = sorted({tuple(words) for page in PAGES for words in lines_of(page) if words[0] not in OTHERS})


def test_there_are_commands_of_either_kind():
    assert {words[0] for words in COMMANDS} == {"dkp", "make"}
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "make"], ids=" ".join)
def test_make_knows_the_target_and_the_variables(words):
    makefile = (ROOT / "Makefile").read_text()
    targets, variables = ([word for word in words[1:] if ("=" in word) is given] for given in (False, True))
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for variable in variables:
        assert re.search(rf"\$\({variable.partition('=')[0]}\)", makefile), variable


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "dkp"], ids=" ".join)
def test_dkp_knows_the_command_and_its_options(words, monkeypatch, capsys):
    """Options are parsed with their values; where a page leaves words out (...), their names are looked up."""
    monkeypatch.chdir(ROOT)
    whole = "..." not in words
    rest = [word for word in words[1:] if word != "..."]
    name = next(name for name in sorted([*FUNCTIONS, *LIGHTNING], key=len, reverse=True)
                if rest[: len(name.split())] == name.split())  # fmt: skip
    rest = rest[len(name.split()) :]
    if name in FUNCTIONS and (
        name not in LIGHTNING or (not re.match(r"runs/|captures/[^/]+$", rest[0]) and predicts_media(rest))
    ):
        if whole:
            parsed(name, spelled_out(name, rest))
        module, attribute = FUNCTIONS[name].split(":")
        known = {*importlib.import_module(module).__dict__[attribute].__annotations__}
        assert {word[2:] for word in with_underscores(rest) if word.startswith("--")} <= known | {"registration.steps"}
        return
    if whole and all(Path(file).is_file() for file in after(rest, "--config")) and name == "fit":
        with pytest.raises(SystemExit) as stopped:
            main([name, *rest, "--print_config"])
        assert stopped.value.code in (0, None), capsys.readouterr().err
        return
    known = {f"--{one}" for one in SHARED} | {option.split()[0].replace("-", "_")[2:] for option in FURTHER}
    known |= {"--config", "--ckpt_path", "--print_config"}
    for word in with_underscores(capture_words(rest) if name == "predict" else rest):
        if word.startswith("--"):
            option = word.partition("=")[0]
            assert option in known or option.split(".")[0] in ("--trainer", "--model", "--data"), word


def after(words: list[str], option: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words) if word == option]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_have_a_language_and_python_imports_what_is_there(page):
    assert not [text for _, language, text in FENCE.findall(page.read_text()) if not language]
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")
        for module, names in re.findall(r"^from (dkp[\w.]*) import (.+)$", block, re.MULTILINE):
            for one in names.split(","):
                assert hasattr(importlib.import_module(module), one.strip()), (module, one)


def test_the_snippets_of_readme_and_of_the_losses_run(tmp_path, monkeypatch):
    """After the command that renders what they read."""
    words = next(line for line in lines_of(ROOT / "README.md") if line[1:2] == ["synthesize"])
    monkeypatch.chdir(tmp_path)
    main([*words[1:], "--subjects", "1", "--frames", "2", "--clip", "2", "--workers", "1"])
    (snippet,), (loss,) = (blocks(ROOT / name, "python") for name in ("README.md", "docs/losses.md"))
    found: dict[str, Any] = {}
    exec(compile(snippet, "README.md", "exec"), found)
    assert found["seen"].vertex[0] >= 0
    assert np.isfinite(found["surface"].at(found["seen"].vertex)).all()
    found = {}
    exec(compile(loss, "losses.md", "exec"), found)
    distance = found["matched"].distance[found["mask"]]
    assert 0 < distance.median() < 10  # of images of 192 px


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_lists_are_lists_for_the_site_too(page):
    """Its Markdown wants four spaces for what goes on in a list, and a blank line before what begins one."""
    text = FENCE.sub("", page.read_text())
    for block in re.split(r"\n\s*\n", text):
        assert not re.match(r" {1,3}\S", block), block
        assert not re.search(r"^ {1,3}([*-]|\d+\.) ", block, re.MULTILINE), block
        first, *rest = block.splitlines() or [""]
        if not re.match(r"([*-]|\d+\.) |#", first):
            assert not [line for line in rest if re.match(r"([*-]|\d+\.) ", line)], block


def test_the_weights_of_the_losses_are_those_of_the_recipes():
    page = (ROOT / "docs" / "losses.md").read_text()
    head, _, *rows = page[page.index("| | `people`") :].split("\n\n")[0].splitlines()
    folders = [re.findall(r"`([\w-]+)`", cell) for cell in head.split("|")[2:-1]]
    for row in rows:
        term, *cells = [cell.strip() for cell in row.split("|")[1:-1]]
        for names, cell in zip(folders, cells, strict=True):
            for name in names:
                terms = read_recipe(ROOT / "configs" / name / "adapted.yaml")["model"]["init_args"]["terms"]
                found = terms.get(term.strip("`"))
                assert cell == ("–" if found is None else f"{found['init_args']['weight']:g}"), (term, name)


def test_the_site_has_every_page():
    text = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r": ([\w/-]+\.md)$", text[text.index("\nnav:") :], re.MULTILINE))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages <= listed
    assert yaml.safe_load(text)["theme"]["font"] is False


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What `make docs` builds."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    words = ["mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_it_has_every_command_and_public_name(site):
    commands = (site / "commands.html").read_text()
    for name in described():
        assert f">dkp {name}<a" in commands, name
    assert 'id="dkp.inference.load"' in (site / "api" / "inference.html").read_text()
    assert 'id="dkp.losses.MultiviewTerm"' in (site / "api" / "losses.html").read_text()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_it_opens_from_the_disk_asks_nobody_and_finds(site):
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        for file in sorted({*site.rglob("*.html")} - {site / "404.html"}):  # that one is for servers
            page.goto(file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), file
        page.goto((site / "index.html").as_uri())
        page.fill("input.md-search__input", "registration")
        page.wait_for_selector(".md-search-result__item", timeout=30_000)
        browser.close()
    assert wrong == []
    files = {unquote(urlsplit(url).path) for url in asked if url.startswith("file:")}
    assert [file for file in files if not Path(file).is_file()] == []
    assert {url for url in asked if not url.startswith((site.as_uri(), "data:", "blob:"))} == set()
