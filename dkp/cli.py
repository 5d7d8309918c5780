"""The command line: `dkp COMMAND`. Every command is imported when it is called, so that `dkp --help` is quick."""

from __future__ import annotations

import importlib
import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any

from dkp import __version__
from dkp.errors import InputError

LIGHTNING = {
    "fit": "Train a task from configurations, into a run folder.",
    "validate": "Evaluate a task on the validation views.",
    "test": "Evaluate a task on the test views.",
    "predict": "Write one npz a view: foreground, coordinate, vertex.",
}
"""Commands of the Lightning command line."""

FUNCTIONS = {
    "train": ("dkp.pipeline:train", "The main job: teacher, control and adapted detector on a capture, with a report."),
    "check": ("dkp.captures:check", "Check a capture: cameras, frames, labels, pair angles, epipolar residuals."),
    "import toml": ("dkp.captures:import_toml", "Import a recording with TOML camera files as a capture."),
    "import board": ("dkp.captures:import_board", "Import a recording of a calibration board as a capture."),
    "import person": ("dkp.captures:import_person", "Import a recording of a person as a capture."),
    "synthesize": ("dkp.synthetic:synthesize", "Render a synthetic labelled capture."),
}
"""Commands that are a function: where it is and what it does."""


class UsageError(Exception):
    """The command line itself is wrong; the message is one sentence."""


def overview() -> str:
    """The text of ``dkp --help``."""
    lines = [
        "usage: dkp COMMAND [OPTIONS]",
        "",
        "Dense keypoint detectors from unlabelled images of calibrated multi-camera rigs.",
        "",
        "commands:",
    ]
    described = {name: text for name, (_, text) in FUNCTIONS.items()} | LIGHTNING
    order = ["train", "fit", "validate", "test", "predict", "check", "import toml", "import board", "import person"]
    for name in [*order, *(name for name in described if name not in order)]:
        lines.append(f"  {name:<15} {described[name]}")
    lines += ["", "`dkp COMMAND --help` lists a command's options. `dkp --version` prints the version."]
    return "\n".join(lines)


def main(args: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        args: the words after ``dkp``; None = those of the process.

    Raises:
        SystemExit: with status 2 for bad input, 1 where training stopped, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if args is None else args)
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        dispatch(words)
    except (InputError, UsageError) as error:
        fail(str(error), 2)
    except ArgumentError as error:
        fail(one_sentence(str(error)), 2)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except Exception as error:
        if type(error).__name__ != "TrainingDiverged":
            raise
        fail(str(error), 1)


def fail(message: str, status: int) -> None:
    """Print ``dkp: error: <message>`` and leave with a status."""
    print(f"dkp: error: {message}", file=sys.stderr)
    raise SystemExit(status)


def dispatch(words: list[str]) -> None:
    """Find the command and run it with the rest of the words."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return
    if words[0] in ("-V", "--version"):
        print(f"dkp {__version__}")
        return
    command, rest = words[0], words[1:]
    if command in LIGHTNING:
        importlib.import_module("dkp.lightning_cli").run(command, rest)
        return
    groups = {name.split()[0]: [] for name in FUNCTIONS if " " in name}
    if command in groups:
        kinds = [name.split()[1] for name in FUNCTIONS if name.startswith(command + " ")]
        if not rest or rest[0] in ("-h", "--help"):
            print("\n".join(f"dkp {command} {kind:<8} {FUNCTIONS[f'{command} {kind}'][1]}" for kind in kinds))
            return
        if rest[0] not in kinds:
            raise UsageError(f"dkp {command}: unknown kind {rest[0]!r}, expected one of {', '.join(kinds)}")
        command, rest = f"{command} {rest[0]}", rest[1:]
    if command not in FUNCTIONS:
        known = [*LIGHTNING, *FUNCTIONS]
        raise UsageError(f"unknown command {command!r}, expected one of {', '.join(known)}")
    call(command, rest)


def call(command: str, words: list[str]) -> None:
    """Run a command that is a function, with options made from its signature, and print what it returns."""
    from jsonargparse import ArgumentParser

    place, description = FUNCTIONS[command]
    module, name = place.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    parser = ArgumentParser(prog=f"dkp {command}", description=description, exit_on_error=False)
    parser.add_function_arguments(function, fail_untyped=False)
    options = parser.instantiate_classes(parser.parse_args(words))
    report(function(**options.as_dict()))


def report(result: Any) -> None:
    """Print a command's result in a line: a capture by its path, anything else as text."""
    if result is None:
        return
    if type(result).__name__ == "Capture":
        print(f"dkp: wrote {result.path} ({len(result.views)} views)")
    else:
        print(result)


def one_sentence(message: str) -> str:
    """The informative line of one of jsonargparse's messages, which may be a tree over many lines."""
    lines = [line.strip(" -|") for line in message.splitlines() if line.strip(" -|")]
    if not lines:
        return "the options cannot be parsed"
    return re.sub(r"\s+", " ", lines[0])
