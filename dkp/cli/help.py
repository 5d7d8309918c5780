"""The help of commands that are a function, from its source: importing it may take seconds."""

import ast
import re
import textwrap
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
WIDTH = 100
MARKUP = re.compile(r":\w+:`~?(?:\w+\.)*(\w+)`|``")
"""What docstrings have and a terminal does not show: roles, of which the last name stays, and double backticks."""


def command_help(command: str, function: str, description: str) -> str:
    """Return the text of ``dkp COMMAND --help``."""
    bare, options = command_options(function)
    lines = [" ".join(["usage: dkp", command, *(shown for shown, _ in bare), "[OPTIONS]"]), "", description, ""]
    for shown, text in [*(entry for entry in bare if entry[1]), *options]:
        lines += textwrap.wrap(text, WIDTH, initial_indent=f"  {shown:<22} ", subsequent_indent=" " * 25)
    return "\n".join(lines)


def command_options(function: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return what a command has to be given, in order, and its options; each as it is written, and what it is."""
    from docstring_parser import parse

    node = definition(function)
    described = {
        entry.arg_name: " ".join(MARKUP.sub(r"\1", entry.description or "").split())
        for entry in parse(ast.get_docstring(node) or "").params
    }
    named = node.args.args + node.args.kwonlyargs
    defaults = [None] * (len(node.args.args) - len(node.args.defaults)) + node.args.defaults + node.args.kw_defaults
    bare: list[tuple[str, str]] = []
    options: list[tuple[str, str]] = []
    for argument, default in zip(named, defaults, strict=True):
        kind = "" if argument.annotation is None else ast.unparse(argument.annotation)
        positional = default is None and argument in node.args.args
        shown = argument.arg.upper() if positional else f"--{argument.arg.replace('_', '-')}"
        value = "" if default is None else f", default {ast.unparse(default)}"
        text = f"{described.get(argument.arg, '')} ({kind}{', required' if default is None else ''}{value})"
        (bare if positional else options).append((shown, text))
        if default is None and not positional:
            bare.append((f"{shown} VALUE", ""))
    return bare, options


def definition(function: str) -> ast.FunctionDef:
    """Return the source of a function ``MODULE:NAME`` of this package."""
    module, name = function.split(":")
    path = PACKAGE.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
