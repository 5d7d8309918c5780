"""The parser of the commands that run a task: what was said before it was resolved, and whether it counts."""

import re
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.cli import LightningArgumentParser

from dkp.captures.splits import Captures, all_captures, split_of
from dkp.errors import InputError
from dkp.recipes import CONFIG, one_config, recipe_folder
from dkp.runs.options import SHARED, given
from dkp.sentences import one_sentence
from dkp.weights import configuration, names

EVALUATED = {"validate": ("val",), "test": ("test",), "predict": ("predict", "test")}
"""Keys of the data that a command evaluates; a later one counts where the earlier ones are not set."""


class RunParser(LightningArgumentParser):
    """A parser that keeps the configuration as it was before ``${...}`` were replaced.

    Attributes:
        said: that configuration, as YAML; None where nothing in it refers to anything.
    """

    said: str | None = None

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Return the configuration as text; before the references are resolved it is dumped once, and kept."""
        text = super().dump(*args, **kwargs)
        if "${" in text:
            self.said = text
        return text


def parsed(
    parser: LightningArgumentParser, words: Sequence[str], shipped: Mapping[str, Any] | None, run: Path | None
) -> Any:
    """Return the parsed words; of a run that is evaluated without its loss terms, where they are another version's.

    Args:
        parser: of a command of Lightning.
        words: of the command line.
        shipped: settings on top, see `one_config`.
        run: the folder of the run that is evaluated; None = there is none.
    """
    try:
        return parser.parse_args(one_config(words, shipped))
    except ArgumentError:
        if run is None:
            raise
        return parser.parse_args(one_config(words, shipped, with_terms=False))


@contextmanager
def saved_by_dkp(run: Path | None, words: Sequence[str]) -> Iterator[None]:
    """Say of a run whose own configuration cannot be parsed that another version of dkp has written it.

    Args:
        run: the run's folder; None = the configuration is the user's.
        words: options of the user beside it, which may be what is wrong.

    Raises:
        InputError: in place of the parser's error.
    """
    try:
        yield
    except ArgumentError as error:
        sentence = one_sentence(str(error))
        if run is None or any(given(words, key.strip(":")) is not None for key in sentence.split()[:1]):
            raise
        raise InputError(
            f"{run}/config.yaml: {sentence}; another version of dkp has written the run: go on with that version, or "
            "begin a new run"
        ) from error


def require_effect(command: str, words: Sequence[str], said: dict[str, Any]) -> str | None:
    """Refuse shared values of the command line that would change nothing.

    Returns:
        A warning, where values are of no use to a task that uses others.

    Raises:
        InputError: nothing that counts refers to the value.
    """
    text = yaml.safe_dump(said)
    referring = bool(re.search(r"\$\{\w+\}", text))
    useless = []
    for name in SHARED:
        value = given(words, name)
        if value is None or name in ("name", "root"):
            continue
        if name == "target" and command in EVALUATED:
            require_target(command, words, said, value)
        elif f"${{{name}}}" not in text:
            if command != "fit" or not referring:
                raise InputError(
                    f"--{name} {value} would change nothing: no key of the configuration refers to ${{{name}}}; give "
                    "the keys themselves, which --print-config lists"
                )
            useless.append(f"--{name}")
    return f"{', '.join(useless)}: nothing in this configuration uses it" if useless else None


def require_target(command: str, words: Sequence[str], said: dict[str, Any], value: str) -> None:
    """Refuse a target that is not what a command evaluates."""
    data = said.get("data") or {}
    data = data.get("init_args") or data
    keys = EVALUATED[command]
    if given(words, *(f"data.{prefix}{key}" for key in keys for prefix in ("", "init_args."))) is not None:
        return
    key = next((key for key in keys if data.get(key)), keys[-1])
    if "${target}" not in str(data.get(key)).replace("${test}", str(said.get("test"))):
        raise InputError(
            f"--target {value} would change nothing: data.{key} is {data.get(key)}, which does not refer to "
            f"${{target}}; give --data.{key} {value}"
        )


def require_labelled(captures: Captures) -> None:
    """Refuse unlabelled captures that are not there where they are to have pseudo-labels: say what makes them."""
    for capture in all_captures(captures):
        path, _ = split_of(capture, "")
        if not Path(path).exists():
            raise InputError(
                f"{path} is not there, expected the capture that `dkp pseudo-label --out {path}` makes of the target "
                "(the recipe's `labels` are its options), or --config configs/unregistered.yaml after the recipe"
            )


def own_run(words: Sequence[str]) -> Path | None:
    """Return the folder of the run whose saved configuration is the last file of a command line."""
    config = given(words, "config") or given(words, "c")
    if config is None or Path(config).name != "config.yaml":
        return None
    folder = Path(config).parent
    return folder if (folder / "checkpoints").is_dir() or (folder / "metrics.csv").is_file() else None


def evaluated(command: str, config: Any) -> str:
    """Say which views a command has evaluated."""
    key = EVALUATED.get(command, ("val",))[0]
    return f"{command} on {config['data']['init_args'].get(key)}"


def without_shipped(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Take `--ckpt_path NAME` of a shipped detector out of a command line.

    Returns:
        The other words, with a recipe for evaluation where they name none; and the settings in place of the name: the
        detector with its weights, and the size of its crops.
    """
    left = list(words)
    for index, word in enumerate(left):
        option, equals, value = word.partition("=")
        value = value if equals else "".join(left[index + 1 : index + 2])
        if option != "--ckpt_path" or value not in names() or Path(value).is_file():
            continue
        del left[index : index + (1 if equals else 2)]
        if not any(one.partition("=")[0] in CONFIG for one in left):
            left.insert(0, f"--config={recipe_folder() / value / 'evaluate.yaml'}")
        return left, configuration(value)
    return left, {}
