"""The command line: `dkp COMMAND`. Every command is imported when it is called, so that `dkp --help` is quick."""

import errno
import importlib
import os
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

from dkp import __version__, signals
from dkp.cli.help import command_help, command_options, description, parameters
from dkp.errors import InputError
from dkp.runs.options import (
    FURTHER,
    LIGHTNING,
    SHARED,
    USAGE,
    capture_words,
    predicts_media,
    run_help,
    saved_config,
    with_saved,
    with_underscores,
)
from dkp.sentences import BRANCH, near, one_sentence

DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOTDIR, errno.EISDIR}
DISK |= {errno.ENAMETOOLONG, errno.ESTALE}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of the system that are about a disk or its rights, not about dkp."""

FUNCTIONS = {
    "train": "dkp.pipeline:train",
    "predict": "dkp.inference.command:predict",
    "export": "dkp.inference.export:export",
    "pseudo-label": "dkp.pipeline.pseudo_labels:pseudo_label",
    "compare-labels": "dkp.pipeline.compare_labels:compare_labels",
    "reconstruct": "dkp.pipeline.reconstruct:reconstruct",
    "view": "dkp.pipeline.view:view",
    "report": "dkp.pipeline.report:report",
    "weights": "dkp.weights.shipped:list_weights",
    "pack-weights": "dkp.weights.pack:pack_weights",
    "check": "dkp.pipeline.check:check",
    "import recording": "dkp.importers.recording:import_recording",
    "import --list": "dkp.importers.cameras.registry:list_formats",
    "import board": "dkp.importers.datasets.board:import_board",
    "import dannce": "dkp.importers.datasets.dannce:import_dannce",
    "import densepose-coco": "dkp.importers.datasets.densepose_coco:import_densepose_coco",
    "import fields": "dkp.importers.fields:import_fields",
    "import human36m": "dkp.importers.datasets.human36m:import_human36m",
    "import skipose": "dkp.importers.datasets.skipose:import_skipose",
    "import openmonkey": "dkp.importers.datasets.openmonkey:import_openmonkey",
    "import person": "dkp.importers.datasets.person:import_person",
    "export-rig": "dkp.importers.rigs:export_rig",
    "refine-rig": "dkp.importers.rigs:refine_rig",
    "synthesize": "dkp.synthetic.synthesis:synthesize",
    "synthesize-backgrounds": "dkp.synthetic.clutter:synthesize_backgrounds",
    "crop-panoramas": "dkp.synthetic.panoramas:crop_panoramas",
    "synthesize-board": "dkp.synthetic.board.synthesis:synthesize_board",
    "study run": "dkp.study.command:run",
    "study status": "dkp.study.command:status",
    "study report": "dkp.study.command:report",
    "study check": "dkp.study.command:check",
    "sweep": "dkp.sweep.command:sweep",
    "bench": "dkp.bench.command:bench",
}
"""Commands that are a function, and where it is; the first line of its docstring says what it does."""


KNOWN_ERRORS = {
    "TrainingDiverged": 1,
    "ProcessLost": 1,
    "WorkersLost": 1,
    "SlowerThanCommitted": 1,
    "NotReproduced": 1,
    "CaptureDoubted": 1,
    "NotEqual": 1,
    "MisconfigurationException": 2,
    "InterpolationKeyError": 2,
    "InterpolationResolutionError": 2,
    "GrammarParseError": 2,
}
"""Names of further exceptions that end in a sentence, with the exit status (names, so that nothing is imported)."""


class UsageError(Exception):
    """The command line itself is wrong; the message is one sentence."""


FIRST = (
    "train fit resume validate test predict export pseudo-label compare-labels reconstruct view report weights check "
    "import_recording import_board import_person"
)
"""Commands that are listed first, in this order."""


def described() -> dict[str, str]:
    """Return what every command does, in the order of the overview."""
    known = LIGHTNING | {name: description(function) for name, function in FUNCTIONS.items()}
    first = [name.replace("_", " ") for name in FIRST.split()]
    return {name: known[name] for name in [*first, *known]}


def overview() -> str:
    """Return the text of ``dkp --help``."""
    lines = [
        "usage: dkp COMMAND [OPTIONS]",
        "",
        "Dense keypoint detectors from unlabelled images of calibrated multi-camera rigs.",
        "",
        "commands:",
        *(f"  {name:<17} {text}" for name, text in described().items()),
    ]
    lines += ["", "`dkp COMMAND --help` lists a command's options. `dkp --version` prints the version."]
    return "\n".join(lines)


def main(args: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        args: the words after ``dkp``; None = those of the process.

    Raises:
        SystemExit: with status 2 for bad input, 1 where training stopped, 128 + N where signal N ended it: 130 after
            Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """
    words = list(sys.argv[1:] if args is None else args)
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    found = None
    with signals.ended_by_signals():
        try:
            dispatch(words)
            sys.stdout.flush()
        except BaseException as error:
            found = explained(error)
            if found is None:
                raise
    if found is not None:
        print(f"dkp: error: {found[0]}", file=sys.stderr)
        raise SystemExit(found[1])


def explained(error: BaseException) -> tuple[str, int] | None:
    """Return what a command says about an exception, and its status; None for what needs a traceback or says enough."""
    if (ended := signals.ending()) is not None:  # whatever came of it
        return ended
    if isinstance(error, SystemExit):
        return None
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return "what reads the output has ended", 141
    if isinstance(error, ArgumentError):
        return one_sentence(str(error)), 2
    cause = input_error(error)
    if cause is not None:
        return str(cause), 2
    if isinstance(error, OSError) and error.filename is not None and error.errno in DISK:
        return f"{error.filename} cannot be used ({error.strerror})", 2
    if isinstance(error, OSError) and error.errno in FULL:  # while a file was written, which the error does not name
        return f"what is to be written does not fit on the disk ({error.strerror})", 2
    status = 2 if str(error).startswith(BRANCH[0]) else KNOWN_ERRORS.get(type(error).__name__)
    return None if status is None else (one_sentence(str(error)), status)


def input_error(error: BaseException | None) -> Exception | None:
    """Return the `InputError` that another exception was raised from, if there is one."""
    while error is not None and not isinstance(error, InputError | UsageError):
        error = error.__cause__ or error.__context__
    return error


def dispatch(words: list[str]) -> None:
    """Find the command and run it with the rest of the words."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return
    if words[0] in ("-V", "--version"):
        print(f"dkp {__version__}")
        return
    if words[:2] == ["import", "toml"]:  # its former name
        words = ["import", "recording", *words[2:]]
    command, rest = words[0], words[1:]
    if command == "predict":
        rest = capture_words(rest)
        if {"-h", "--help"} & set(rest):
            print(f"{command_help(command, FUNCTIONS[command])}\n\nThe views of captures:\n")
    if command in LIGHTNING and not (command in FUNCTIONS and predicts_media(rest)):
        if {"-h", "--help"} & set(rest):
            print(run_help(command))
        else:
            run_words(command, rest)
        return
    groups = {name.split()[0] for name in FUNCTIONS if " " in name}
    if command in groups:
        kinds = [name.split()[1] for name in FUNCTIONS if name.startswith(command + " ")]
        if not rest or rest[0] in ("-h", "--help"):
            told = {kind: description(FUNCTIONS[f"{command} {kind}"]) for kind in kinds}
            print("\n".join(f"dkp {command} {kind:<14} {text}" for kind, text in told.items()))
            if not rest:
                raise UsageError(f"dkp {command} needs one of {', '.join(kinds)}")
            return
        if rest[0] not in kinds:
            raise UsageError(
                f"dkp {command}: unknown kind {rest[0]!r}{near(rest[0], kinds)}, expected one of {', '.join(kinds)}"
            )
        command, rest = f"{command} {rest[0]}", rest[1:]
    if command not in FUNCTIONS:
        known = list({**LIGHTNING, **FUNCTIONS})
        raise UsageError(f"unknown command {command!r}{near(command, known)}, expected one of {', '.join(known)}")
    if {"-h", "--help"} & set(rest):
        print(command_help(command, FUNCTIONS[command]))
    else:
        call(command, rest)


def run_words(command: str, words: list[str]) -> None:
    """Run a command of `LIGHTNING`; what is no option of it is named before anything is imported."""
    if not words:
        raise UsageError(f"dkp {command} needs words after it, expected {USAGE[command]}")
    known = [f"--{name.replace('_', '-')}" for name in SHARED] + [key.split()[0] for key in FURTHER]
    known = [*(option.partition(".")[0] for option in known), "--weights-only"]
    for option in (word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")):
        if "." not in option and option not in known:
            raise UsageError(f"{option} is not an option of dkp {command}{near(option, known)}")
    rest = ["--help" if word == "--help-all" else word for word in words]
    if command == "resume" and not rest[0].startswith("-"):
        saved_config(Path(rest[0]))
    elif command != "resume":
        from dkp.recipes import require_configs

        require_configs(with_saved(command, rest)[0])
    lightning = importlib.import_module("dkp.runs.lightning")
    if command == "resume" and rest[0] != "--help":
        lightning.resume(rest)
    else:
        lightning.run("fit" if command == "resume" else command, rest)


def call(command: str, words: list[str]) -> None:
    """Run a command that is a function, and print what it returns."""
    spelled = spelled_out(command, words)
    require_there(command, spelled)
    function, options = parsed(command, spelled)
    report(function(**options))


def parsed(command: str, spelled: Sequence[str]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the function of a command, and its arguments from options as `spelled_out` has them."""
    from jsonargparse import ArgumentParser

    module, attribute = FUNCTIONS[command].split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    required = [name for name, _, default, _ in parameters(FUNCTIONS[command]) if default is None]
    parser.add_function_arguments(function, as_positional=False, fail_untyped=False, skip={*required})
    hints = get_type_hints(function)
    for name in required:
        parser.add_argument(f"--{name}", type=hints.get(name, str), required=True)
    options = parser.instantiate_classes(parser.parse_args(spelled))
    return function, options.as_dict()


def require_there(command: str, spelled: Sequence[str]) -> None:
    """Refuse what a command reads first where there is no such file or folder, before its imports take seconds.

    Names of shipped detectors and patterns are left to the command.

    Raises:
        InputError: it is not there; the sentence has what the command's help says of it.
    """
    first = next((name for name, _, default, _ in parameters(FUNCTIONS[command]) if default is None), "out")
    parts = ((word.partition("="), following) for word, following in pairwise([*spelled, ""]))
    place = next((value or following for (name, _, value), following in parts if name.rstrip("+") == f"--{first}"), "")
    path = place.partition("#")[0]
    if not (first in ("out", "ckpt_path") or os.path.exists(path) or os.path.exists(place) or {*"*?[{"} & {*path}):
        shown, text = command_options(FUNCTIONS[command])[0][0]
        described = text.rpartition(" (")[0].partition(";")[0].rstrip(".")
        raise InputError(f"{place} is not there, expected {shown}: {described}")


def spelled_out(command: str, words: Sequence[str]) -> list[str]:
    """Options as the parser wants them: `--as-json` is `--as_json true`, and words without a name get theirs.

    Raises:
        UsageError: an option is none of the command's, a value is torn, something required is missing, or there is a
            word more than parameters without a name.
    """
    known = parameters(FUNCTIONS[command])
    hints = {name: kind for name, kind, _, _ in known}
    bare = [name for name, _, _, free in known if free]
    required = [name for name, _, default, _ in known if default is None]
    result: list[str] = []
    rest = with_underscores(words)
    given = {word.removeprefix("--").partition("=")[0] for word in rest if word.startswith("--")}
    free = [name for name in bare if name not in given]
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            if not free:
                raise UsageError(f"found the word {word!r} where an option --NAME is expected")
            several = hints.get(free[0]) == "list[str]"  # as many words as there are
            result += [f"--{free[0]}+" if several else f"--{free.pop(0)}", word]
            continue
        name, equals, value = word.removeprefix("--").partition("=")
        kind = hints.get(name.split(".")[0])
        if kind is None:
            shown, *options = (f"--{one}".replace("_", "-") for one in (name, *hints))
            raise UsageError(f"{shown} is not an option of dkp {command}{near(shown, options)}")
        result.append(word)
        following = rest[0].lower() if rest else ""
        if not equals and kind == "bool" and following not in ("true", "false"):
            result.append("true")
        elif not equals and rest:
            value = rest.pop(0)
            result.append(value)
        if value.startswith(("{", "[")) and sum(value.count(one) for one in "{[") > sum(map(value.count, "}]")):
            raise UsageError(f"--{name} {value} ends before its brackets do: put all of the value in quotes")
    named = {word.partition("=")[0].removeprefix("--").rstrip("+") for word in result}
    if missing := [name for name in required if name not in named]:
        typed = [name.upper() if name in bare else f"--{name} {name.upper()}".replace("_", "-") for name in required]
        lacking = " and no ".join(typed[required.index(name)] for name in missing)
        raise UsageError(f"dkp {command} has no {lacking}, expected dkp {command} {' '.join(typed)} [OPTIONS]")
    return result


def report(result: Any) -> None:
    """Print a command's result in a line: a capture by its path, anything else as text."""
    if result is None:
        return
    if type(result).__name__ == "Capture":
        print(f"dkp: wrote {result.path} ({len(result.views)} views)")
    else:
        print(result)
