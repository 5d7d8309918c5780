"""What MkDocs makes while it builds the site: pages of the commands and of the API, and search without a server."""

import ast
import json
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from dkp.cli.commands import FUNCTIONS, described
from dkp.cli.help import PACKAGE, command_options, description
from dkp.runs.options import FURTHER, LIGHTNING, NOTES, SHARED, USAGE

ROOMS = {
    "inference": "Predict", "captures": "Captures", "geometry": "Geometry", "surface": "Surface", "fields": "Fields",
    "losses": "Losses", "metrics": "Metrics", "reconstruction": "Reconstruction", "models": "Detectors",
    "weights": "Shipped weights", "viz": "Figures",
}  # fmt: skip
"""Rooms that users import from, and the titles of their pages."""

WORKER = "javascripts/iframe-worker.js"
"""Beside `plugins: offline`, which would ask another machine for a file of this name; see `extra` in mkdocs.yml."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    files.append(File.generated(config, "commands.md", content=commands_page()))
    for room, title in ROOMS.items():
        files.append(File.generated(config, f"api/{room}.md", content=room_page(room, title)))
    return files


def commands_page() -> str:
    """Return the page of all commands, from the table of commands and their docstrings."""
    lines = ["# Commands", "", "`dkp COMMAND --help` prints the same. Options may have hyphens or underscores.", ""]
    for name in described():
        lines += [f"## dkp {name}", ""]
        if name in FUNCTIONS:
            function = FUNCTIONS[name]
            bare, options = command_options(function)
            words = " ".join(["dkp", name, *(shown for shown, _ in bare), "[OPTIONS]"])
            lines += [description(function), "", "```text", words, "```", ""]
            lines += table([*(entry for entry in bare if entry[1]), *options])
        if name in LIGHTNING:
            if name in FUNCTIONS:
                lines += ["Of a run or of the views of a capture:", ""]
            lines += [LIGHTNING[name], NOTES[name], "", "```text", USAGE[name], "```", ""]
            lines += ["Options: [those of runs](#options-of-runs).", ""]
    lines += ["## Options of runs", "", "Of `dkp fit`, `resume`, `validate`, `test` and `predict`.", ""]
    lines += table(list(FURTHER.items()))
    lines += ["Values that data, network and losses share:", ""]
    defaults = {name: "" if default is None else f" (default {default})" for name, (_, default, _) in SHARED.items()}
    lines += table([(f"--{name.replace('_', '-')}", text + defaults[name]) for name, (_, _, text) in SHARED.items()])
    return "\n".join(lines)


def table(rows: list[tuple[str, str]]) -> list[str]:
    """Return options and what they are as a table."""
    if not rows:
        return []
    cells = [(f"`{name}`", text.replace("|", "\\|").replace("<", "&lt;")) for name, text in rows]
    return ["| option | |", "|---|---|", *(f"| {name} | {text} |" for name, text in cells), ""]


def room_page(room: str, title: str) -> str:
    """Return the page of a room: its public names."""
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
    names = [name.asname or name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names]
    members = json.dumps(sorted(names))
    source = "import dkp" if room == "inference" else f"from dkp.{room} import ..."
    return f"# {title}\n\n```python\n{source}\n```\n\n::: dkp.{room}\n    options:\n      members: {members}\n"


def on_post_build(config: MkDocsConfig) -> None:
    """Write the script that lets a page of the disk search: there, browsers refuse a worker that is a file."""
    (worker,) = Path(config.site_dir).glob("assets/javascripts/workers/search.*.min.js")
    source = json.dumps(worker.read_text(encoding="utf-8"))
    script = f"""if (location.protocol === "file:") {{
  const source = URL.createObjectURL(new Blob([{source}], {{type: "text/javascript"}}));
  window.Worker = class extends Worker {{ constructor() {{ super(source); }} }};
}}
"""
    file = Path(config.site_dir) / WORKER
    file.parent.mkdir(exist_ok=True)
    file.write_text(script, encoding="utf-8")
