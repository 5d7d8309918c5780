"""Looking shipped detectors up by name."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dkp.errors import InputError
from dkp.models import Detector, load_detector
from dkp.sentences import near

FOLDER = Path(__file__).parent

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Card:
    """What is known of a shipped detector.

    Attributes:
        name: by which it is found.
        summary: one sentence.
        surface: name of its surface.
        size: side of the crops that it was trained on and measured with [px].
        options: of the `Detector`.
        sha256: of the weights file, hexadecimal.
        licence: of the weights.
        data: what it learned from, with the licences.
        recipe: how it was made.
        limits: where it is not to be relied on.
        metrics: what was measured, by data set.
    """

    name: str
    summary: str
    surface: str
    size: int
    options: dict[str, Any]
    sha256: str
    licence: str
    data: list[str]
    recipe: str
    limits: list[str]
    metrics: dict[str, dict[str, float]]

    @property
    def file(self) -> Path:
        """The weights file."""
        return FOLDER / f"{self.name}{SUFFIX}"


def names() -> list[str]:
    """Names of the shipped detectors."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def shipped_for(surface: str) -> str | None:
    """Return the name of the shipped detector of a surface, the first of several; None = there is none."""
    return next((name for name in names() if card(name).surface == surface), None)


@cache
def card(name: str) -> Card:
    """Return the card of a shipped detector.

    Raises:
        InputError: there is none of that name, or its card cannot be read.
    """
    if name not in names():
        known = names()
        raise InputError(f"dkp ships no weights {name!r}{near(name, known)}, expected one of {', '.join(known)}")
    path = FOLDER / f"{name}.json"
    try:
        sheet = json.loads(path.read_text(encoding="utf-8"))
        return Card(name=name, options=sheet["detector"], **sheet["card"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is damaged ({error}), expected the card as dkp ships it: install dkp again"
        ) from error


def weights_file(source: str | Path) -> Path:
    """Return the file that a name or a path stands for; a file of that name in the current folder comes first.

    Raises:
        InputError: the shipped file is not what its card says.
    """
    path = Path(source)
    if path.exists() or str(source) not in names():
        return path
    found = card(str(source))
    if hashlib.sha256(found.file.read_bytes()).hexdigest() != found.sha256:
        raise InputError(f"{found.file} is damaged, expected the file as dkp ships it: install dkp again")
    return found.file


def load(name: str) -> Detector:
    """Return a shipped detector in evaluation mode, in float32 on the CPU.

    Raises:
        InputError: there is none of that name, or it is damaged.
    """
    card(name)
    return load_detector(weights_file(name))


def configuration(name: str) -> dict[str, Any]:
    """Return what a run's configuration says of a shipped detector: its crops, surface, options and weights.

    Raises:
        InputError: there is none of that name, or it is damaged.
    """
    found = card(name)
    options = {**found.options, "weights": str(weights_file(name)), "encoder_weights": None, "pretrained": False}
    return {
        "size": found.size,
        "stride": found.options["stride"],
        "surface": found.surface,
        "model": {"init_args": {"detector": {"class_path": "dkp.models.Detector", "init_args": options}}},
    }


def list_weights(name: str | None = None) -> str:
    """Return what detectors dkp ships, or the card of one.

    Args:
        name: of one of them.
    """
    if name is None:
        lines = [f"{one:<14} {card(one).size} px  {card(one).file.stat().st_size / 1e6:.1f} MB  {card(one).summary}"
                 for one in names()]  # fmt: skip
        return "\n".join(lines) or "dkp ships no weights"
    found = card(name)
    lines = [f"{found.name}: {found.summary}", f"licence   {found.licence}", f"recipe    {found.recipe}"]
    lines += [f"sha256    {found.sha256}", *(f"data      {one}" for one in found.data)]
    lines += [f"limit     {one}" for one in found.limits]
    for where, values in found.metrics.items():
        lines.append(f"measured  {where}: " + ", ".join(f"{key} {value:g}" for key, value in values.items()))
    return "\n".join(lines)
