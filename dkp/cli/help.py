"""The help of commands that are a function, from its source: importing it may take seconds."""

import ast
import re
import textwrap
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
WIDTH = 100
MARKUP = re.compile(r":\w+:`~?(?:\w+\.)*(\w+)`|``")
"""What docstrings have and a terminal does not show: roles, of which the last name stays, and double backticks."""


def command_help(command: str, function: str) -> str:
    """Return the text of ``dkp COMMAND --help``."""
    bare, options = command_options(function)
    lines = [
        " ".join(["usage: dkp", command, *(shown for shown, _ in bare), "[OPTIONS]"]),
        "",
        description(function),
        "",
    ]
    for shown, text in [*(entry for entry in bare if entry[1]), *options]:
        lines += textwrap.wrap(text, WIDTH, initial_indent=f"  {shown:<22} ", subsequent_indent=" " * 25)
    return "\n".join(lines)


def description(function: str) -> str:
    """Return what a command does: the first line of its docstring."""
    return MARKUP.sub(r"\1", (ast.get_docstring(definition(function)) or "").partition("\n")[0])


def command_options(function: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return what a command has to be given, in order, and its options; each as it is written, and what it is."""
    from docstring_parser import parse

    described = {
        entry.arg_name: " ".join(MARKUP.sub(r"\1", entry.description or "").split())
        for entry in parse(ast.get_docstring(definition(function)) or "").params
    }
    bare: list[tuple[str, str]] = []
    options: list[tuple[str, str]] = []
    for name, kind, default, free in parameters(function):
        positional = default is None and free
        shown = name.upper() if positional else f"--{name.replace('_', '-')}"
        value = ", required" if default is None else f", default {default}"
        (bare if positional else options).append((shown, f"{described.get(name, '')} ({kind}{value})"))
        if default is None and not positional:
            bare.append((f"{shown} VALUE", ""))
    return bare, options


def parameters(function: str) -> list[tuple[str, str, str | None, bool]]:
    """Return name, type and default of each parameter, as they are written, and whether it needs no name."""
    args = definition(function).args
    defaults = [None] * (len(args.args) - len(args.defaults)) + args.defaults + args.kw_defaults
    return [
        (
            argument.arg,
            "" if argument.annotation is None else ast.unparse(argument.annotation),
            None if default is None else ast.unparse(default),
            argument in args.args,
        )
        for argument, default in zip(args.args + args.kwonlyargs, defaults, strict=True)
    ]


@cache
def definition(function: str) -> ast.FunctionDef:
    """Return the source of a function ``MODULE:NAME`` of this package."""
    module, name = function.split(":")
    path = PACKAGE.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
