"""The command line: `dkp COMMAND`. Every command is imported when it is called, so that `dkp --help` is quick."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
import signal
import sys
import threading
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, get_type_hints

from dkp import __version__
from dkp.errors import InputError

LIGHTNING = {
    "fit": "Train a task from configurations, into a run folder.",
    "resume": "Go on with a run that was interrupted, in its folder.",
    "validate": "Evaluate a task on the validation views.",
    "test": "Evaluate a task on the test views.",
    "predict": "Write one npz a view: foreground, coordinate, vertex.",
}
"""Commands of the Lightning command line."""

FUNCTIONS = {
    "train": ("dkp.pipeline:train", "The main job: teacher, control and adapted detector on a capture, with a report."),
    "pseudo-label": (
        "dkp.pipeline.pseudo_labels:pseudo_label",
        "Label unlabelled views by a detector's fields of all cameras: triangulation or registration.",
    ),
    "compare-labels": (
        "dkp.pipeline.compare_labels:compare_labels",
        "Measure the labels of a capture by those that another has of the same views.",
    ),
    "weights": ("dkp.weights:list_weights", "List the detectors that dkp ships, or the card of one."),
    "pack-weights": ("dkp.weights.pack:pack_weights", "Make a shipped detector of a run, with its card."),
    "check": (
        "dkp.captures.check.command:check",
        "Check a capture: cameras, frames, labels, pair angles, epipolar residuals.",
    ),
    "import toml": ("dkp.importers.recording:import_toml", "Import a recording with TOML camera files as a capture."),
    "import board": (
        "dkp.importers.datasets.board:import_board",
        "Import a recording of a calibration board as a capture.",
    ),
    "import person": ("dkp.importers.datasets.person:import_person", "Import a recording of a person as a capture."),
    "synthesize": ("dkp.synthetic.synthesis:synthesize", "Render a synthetic labelled capture of people or dogs."),
    "synthesize-backgrounds": (
        "dkp.synthetic.clutter:synthesize_backgrounds",
        "Draw a folder of cluttered pictures to put behind rendered subjects.",
    ),
    "synthesize-board": (
        "dkp.synthetic.board.synthesis:synthesize_board",
        "Render a synthetic labelled capture of the board.",
    ),
    "study run": ("dkp.study.command:run", "Run methods on captures with several seeds, side by side at equal cost."),
    "study status": ("dkp.study.command:status", "List the cells of a study and whether there is a result of each."),
    "study report": ("dkp.study.command:report", "Write summary, tables and pictures of a study."),
    "study check": ("dkp.study.command:check", "Run a cell of a study again and compare it with the committed result."),
    "sweep": ("dkp.sweep:sweep", "Run a fit with many values of its options, and find the best."),
    "bench": ("dkp.bench.command:bench", "Measure speed: the loss's engines, a training step, loader, renderer."),
}
"""Commands that are a function: where it is and what it does."""


KNOWN_ERRORS = {
    "TrainingDiverged": 1,
    "ProcessLost": 1,
    "SlowerThanCommitted": 1,
    "NotReproduced": 1,
    "MisconfigurationException": 2,
    "InterpolationKeyError": 2,
    "InterpolationResolutionError": 2,
    "GrammarParseError": 2,
}
"""Names of further exceptions that end in a sentence, with the exit status (names, so that nothing is imported)."""


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
    order = [
        "train",
        "fit",
        "resume",
        "validate",
        "test",
        "predict",
        "pseudo-label",
        "compare-labels",
        "weights",
        "check",
        "import toml",
        "import board",
        "import person",
    ]
    for name in [*order, *(name for name in described if name not in order)]:
        lines.append(f"  {name:<17} {described[name]}")
    lines += ["", "`dkp COMMAND --help` lists a command's options. `dkp --version` prints the version."]
    return "\n".join(lines)


def main(args: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        args: the words after ``dkp``; None = those of the process.

    Raises:
        SystemExit: with status 2 for bad input, 1 where training stopped, 130 after Ctrl-C, 143 after SIGTERM.
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
        cause = input_error(error)
        if cause is not None:
            fail(str(cause), 2)
        status = 2 if str(error).startswith(BRANCH[0]) else KNOWN_ERRORS.get(type(error).__name__)
        if status is None:
            raise
        fail(one_sentence(str(error)), status)


def input_error(error: BaseException | None) -> InputError | None:
    """The `InputError` that another exception was raised from, if there is one."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


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
    if command == "resume":
        importlib.import_module("dkp.lightning_cli").resume(rest)
        return
    if command in LIGHTNING:
        importlib.import_module("dkp.lightning_cli").run(command, rest)
        return
    groups = {name.split()[0] for name in FUNCTIONS if " " in name}
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
    module, attribute = place.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    parser = ArgumentParser(prog=f"dkp {command}", description=description, exit_on_error=False, allow_abbrev=False)
    parameters = inspect.signature(function).parameters.values()
    required = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    bare = [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    parser.add_function_arguments(function, as_positional=False, fail_untyped=False, skip={*required})
    hints = get_type_hints(function)
    described = argument_help(function)
    for name in required:
        parser.add_argument(f"--{name}", type=hints.get(name, str), required=True, help=described.get(name, ""))
    options = parser.instantiate_classes(parser.parse_args(spelled_out(words, hints, bare)))
    with ended_by_sigterm():
        report(function(**options.as_dict()))


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Inside, SIGTERM unwinds the command as Ctrl-C does, so that the processes it has started end with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: fail("ended by SIGTERM", 128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def spelled_out(words: Sequence[str], hints: Mapping[str, Any], bare: Sequence[str]) -> list[str]:
    """Options as the parser wants them: `--as-json` is `--as_json true`, and words without a name get theirs.

    Args:
        words: of the command line.
        hints: type of each parameter.
        bare: parameters that may be given without their name, in order.

    Raises:
        UsageError: there is a word more than parameters without a name.
    """
    result: list[str] = []
    given = {word.removeprefix("--").partition("=")[0].replace("-", "_") for word in words if word.startswith("--")}
    free = [name for name in bare if name not in given]
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            if not free:
                raise UsageError(f"found the word {word!r} where an option --NAME is expected")
            result += [f"--{free.pop(0)}", word]
            continue
        name, equals, value = word.removeprefix("--").partition("=")
        known = name.replace("-", "_")
        kind = hints.get(known.split(".")[0])
        result.append(f"--{known}{equals}{value}" if kind is not None else word)
        if equals or word == "--help":
            continue
        following = rest[0].lower() if rest else ""
        if kind is bool and following not in ("true", "false"):
            result.append("true")
        elif kind is not None and rest:
            result.append(rest.pop(0))
    return result


def argument_help(function: Callable[..., Any]) -> dict[str, str]:
    """What a function's docstring says about each argument."""
    from docstring_parser import parse

    return {
        entry.arg_name: " ".join((entry.description or "").split()) for entry in parse(function.__doc__ or "").params
    }


def report(result: Any) -> None:
    """Print a command's result in a line: a capture by its path, anything else as text."""
    if result is None:
        return
    if type(result).__name__ == "Capture":
        print(f"dkp: wrote {result.path} ({len(result.views)} views)")
    else:
        print(result)


BRANCH = ("Does not validate against", "Subtypes:", "Errors:", "Given value", "Expected a <class 'NoneType'>")
"""Lines of jsonargparse's messages that say nothing to a user."""


def one_sentence(message: str) -> str:
    """What a user needs of one of jsonargparse's messages, which may be a tree over many lines.

    Such a tree has a line `Parser key "..."` for every level of the key and, in its first branch, the reason.
    """
    interpolation = re.search(
        r"(Interpolation key '[^']+' not found).*full_key: (?:[a-z]+\.)?(\S+)", message, re.DOTALL
    )
    if interpolation:
        return f"{interpolation[2]}: {interpolation[1]}"
    keys: list[str] = []
    owner = ""
    reason = ""
    for line in (line.strip(" -") for line in message.splitlines()):
        key = re.fullmatch(r'Parser key "([^"]+)":(.*)', line)
        problem = re.match(r"Problem with given class_path '([^']+)':", line)
        if key:
            keys.append(key[1])
            reason = key[2].strip()
        elif problem:
            owner = problem[1]
        elif line and not line.startswith(BRANCH):
            reason = line
        if reason:
            break
    if not reason:
        return re.sub(r"\s+", " ", message).strip() or "the options cannot be parsed"
    option = re.fullmatch(r"Option '([^']+)' is not accepted", reason)
    if option:
        place = ".".join([*keys, option[1]])
        return f"{place} is not an option of {owner}{did_you_mean(owner, option[1])}"
    if not keys and len(message.splitlines()) > 1:
        reason = re.sub(r"\s+", " ", message).strip()
    return f"{'.'.join(keys)}: {reason}" if keys else reason


def did_you_mean(owner: str, option: str) -> str:
    """The closest option of a class, as the end of a sentence; empty where nothing is close."""
    module, _, name = owner.rpartition(".")
    try:
        parameters = list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    except (ImportError, AttributeError, ValueError, TypeError):
        return ""
    near = difflib.get_close_matches(option, parameters, 1)
    return f" (did you mean {near[0]}?)" if near else ""
