"""The options that runs share, and the short help of the commands that run one; nothing here imports torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dkp.errors import InputError

LIGHTNING = {
    "fit": "Train a task from configurations, into a run folder.",
    "resume": "Go on with a run that was interrupted, in its folder.",
    "validate": "Evaluate a task on the validation views.",
    "test": "Evaluate a task on the test views.",
    "predict": "Write one npz a view of a capture: foreground, coordinate, vertex.",
}
"""Commands that run a task."""

SHARED: dict[str, tuple[Any, Any, str]] = {
    "name": (str, "run", "Name of the run's folder below root."),
    "root": (str, "runs", "Folder of all runs."),
    "source": (str | None, None, "Capture with labels: PATH or PATH#SPLIT."),
    "target": (str | None, None, "Capture to adapt to: PATH or PATH#SPLIT."),
    "test": (str | None, None, "Capture to be tested on: PATH or PATH#SPLIT."),
    "surface": (str, "human", "Name or file of the canonical surface."),
    "size": (int, 64, "Side of the network's input images [px]."),
    "stride": (int, 2, "Input pixels per cell of the field."),
    "sigma": (float, 0.05, "Width of the matchability [m]."),
    "sigma_final": (float | None, None, "The same at the end of training [m]; null = it stays."),
    "clip": (float | None, 20.0, "Greatest epipolar distance that counts [px]."),
    "scale": (float, 0.1, "Difference of coordinates that makes a loss of one [m]."),
    "beta": (float, 0.03, "Difference of coordinates at which smooth L1 turns linear [m]."),
    "labels": (dict[str, Any] | None, None, "How `dkp train` labels the target before: options of `dkp pseudo-label`."),
    "subject": (dict[str, Any] | None, None, "How `dkp train` renders the target's subject: as `dkp synthesize`."),
}
"""Values that data, network and losses share: type, default and description."""

FURTHER = {
    "--config FILE": "A recipe; several files are put on top of each other.",
    "--ckpt-path FILE": "Checkpoint to begin from; `best` and `last` are those of the run.",
    "--seed-everything N": "Seed of all random draws (default 0).",
    "--trainer.KEY VALUE": "Of Lightning's Trainer: max_steps, accelerator, devices, precision, ...",
    "--model.KEY VALUE": "Of the task: learning_rate, weights of its loss terms, detector, ...",
    "--data.KEY VALUE": "Of the data: labelled, unlabelled, test, predict, num_workers, ...",
    "--print-config": "Print the merged configuration and run nothing.",
    "--help-all": "List every option of Lightning's, too.",
}
"""Options beside the shared ones, for the help."""

USAGE = {
    "fit": "dkp fit --config FILE [OPTIONS]",
    "resume": "dkp resume RUN [OPTIONS]",
    "validate": "dkp validate RUN [OPTIONS]",
    "test": "dkp test RUN [OPTIONS]",
    "predict": "dkp predict RUN|CAPTURE [OPTIONS]",
}

NOTES = {
    "fit": "The run's folder is ROOT/NAME, or NAME-2, -3, ... where that exists.",
    "resume": "It goes on in its own folder from its newest checkpoint. OPTIONS are those of fit and count this once.",
    "validate": "RUN is a run's folder: its configuration and last checkpoint are taken, and data.val.",
    "test": "RUN is a run's folder: its configuration and last checkpoint are taken, and data.test.",
    "predict": "RUN is a run's folder: its configuration and last checkpoint are taken, and data.predict or data.test. "
    "CAPTURE is a capture or CAPTURE#SPLIT, for the shipped detector of its surface or what --ckpt-path names: a "
    "shipped detector or a RUN.",
}


def run_help(command: str) -> str:
    """Return the text of ``dkp COMMAND --help`` for a command of `LIGHTNING`."""
    lines = [f"usage: {USAGE[command]}", "", LIGHTNING[command], NOTES[command], "", "options:"]
    lines += [f"  {option:<22} {text}" for option, text in FURTHER.items()]
    lines += ["", "values that data, network and losses share:"]
    for name, (_, default, text) in SHARED.items():
        shown = "" if default is None else f" (default {default})"
        lines.append(f"  {f'--{name} VALUE':<22} {text}{shown}")
    return "\n".join(lines)


def predicts_media(words: Sequence[str]) -> bool:
    """Whether the words of ``dkp predict`` are about an image, a folder of images or a video, not about captures."""
    folder = words[0] if words else "-"
    return not folder.startswith("-") and not (Path(folder) / "config.yaml").is_file()


def capture_words(words: Sequence[str]) -> list[str]:
    """Return the words of ``dkp predict CAPTURE [--ckpt-path NAME|RUN]`` as those of ``dkp predict [RUN] --...``.

    Raises:
        InputError: no detector is named, and dkp ships none for the capture's surface.
    """
    capture = words[0] if words else "-"
    if capture.startswith("-") or not (Path(capture.partition("#")[0]) / "capture.json").is_file():
        return list(words)
    views = capture if "#" in capture else f"{capture}#"
    rest = with_underscores(words[1:])
    checkpoint = given(rest, "ckpt_path")
    if checkpoint is not None and Path(checkpoint).exists() and given(rest, "config") is None:
        return ["--data.predict", views, *rest]
    if checkpoint is None and given(rest, "config") is None:
        rest += ["--ckpt_path", detector_for(capture)]
    if given(rest, "out") is not None:
        raise InputError("--out is for images and videos; the fields of a capture go to ROOT/NAME: --root, --name")
    if given(rest, "name") is None:
        rest += ["--name", Path(capture.partition("#")[0]).resolve().name]
    return ["--target", views, *rest]


def run_first(words: Sequence[str]) -> list[str]:
    """Return the words of ``--ckpt_path RUN`` or ``--ckpt_path RUN/checkpoints/FILE`` as those that begin with RUN.

    Raises:
        InputError: there is no such run, and the detector is not in the box; or an exported detector is given.
    """
    checkpoint, left = given(words, "ckpt_path"), list(words)
    if checkpoint is not None and Path(checkpoint).suffix in (".onnx", ".pt2", ".safetensors"):
        raise InputError(
            f"ckpt_path is {checkpoint}, an exported detector, which `dkp predict` takes for images and videos alone, "
            "expected what it was exported from: a run, its checkpoint, or the name of one in the box"
        )
    named = [word for word in words if word.startswith(("--config", "-c", "--model", "--data", "--help", "--print"))]
    if checkpoint is None and not named and all(word.startswith("-") for word in words[:1]):
        raise InputError("no detector is named, expected RUN, --ckpt-path NAME of one in the box, or --config FILE")
    if checkpoint is None or not words[0].startswith("-") or given(words, "config", "c") is not None:
        return left
    path = Path(checkpoint)
    if path.is_dir():
        at = next(index for index, word in enumerate(left) if word.partition("=")[0] == "--ckpt_path")
        del left[at : at + (1 if "=" in left[at] else 2)]
        return [checkpoint, *left]
    if path.is_file():
        run = path.absolute().parents[1]
        if not (run / "config.yaml").is_file():
            raise InputError(
                f"{path} lies in no run, expected RUN/checkpoints/NAME.ckpt beside RUN/config.yaml, or --config FILE"
            )
        return [str(run), *left]
    from dkp.weights import names

    if checkpoint not in names():
        raise InputError(
            f"ckpt_path {checkpoint} is not there, expected the folder of a run, a checkpoint in one, or a detector in "
            f"the box: {', '.join(names())}"
        )
    return left


def detector_for(capture: str) -> str:
    """Return the name of the shipped detector of a capture's surface."""
    from dkp.captures import Capture
    from dkp.weights import shipped_for

    surface = Capture.open(capture.partition("#")[0]).surface.name
    if (name := shipped_for(surface)) is None:
        raise InputError(
            f"{capture}: dkp ships no detector for its surface, {surface}, expected --ckpt-path RUN or FILE"
        )
    return name


def given(words: Sequence[str], *names: str) -> str | None:
    """Return the last value that a command line gives to an option of one of these names; None where it gives none."""
    found = None
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in [f"--{one}" if len(one) > 1 else f"-{one}" for one in names]:
            found = value if equals else words[index + 1] if index + 1 < len(words) else ""
    return found


def with_underscores(words: Sequence[str]) -> list[str]:
    """Return a command line with the names of its options as Python spells them: ``--ckpt-path`` is ``--ckpt_path``."""
    result = []
    for word in words:
        name, equals, value = word.partition("=")
        long = name.startswith("--") and len(name) > 2
        result.append(f"--{name[2:].replace('-', '_')}{equals}{value}" if long else word)
    return result


def with_saved(command: str, words: Sequence[str]) -> tuple[list[str], Path | None]:
    """Return options that begin with the saved configuration of the run that is named first, and that run's folder.

    Args:
        command: "fit", "validate", "test" or "predict".
        words: after the command; all but "fit" take the folder of a run in place of its configuration.

    Raises:
        InputError: as for `run_first` and `saved_config`.
    """
    words = with_underscores(words)
    if command == "fit" or not (words := run_first(words)) or words[0].startswith("-"):
        return words, None
    return [f"--config={saved_config(Path(words[0]))}", *words[1:]], Path(words[0])


def saved_config(run: Path) -> Path:
    """Return the configuration that a run has saved.

    Raises:
        InputError: there is no such run.
    """
    if not (config := run / "config.yaml").is_file():
        found = "has no config.yaml" if run.is_dir() else "is a file" if run.exists() else "is not there"
        if (run / "capture.json").is_file():
            raise InputError(f"{run} is a capture, expected the folder of a run, or --ckpt-path NAME --target {run}")
        raise InputError(f"{run} {found}, expected the folder of a run")
    return config
