"""Making a shipped detector of a run: weights in half precision, and the card with what was measured."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dkp.errors import InputError
from dkp.models import save_detector
from dkp.weights.run import run_detector
from dkp.weights.shipped import FOLDER, SUFFIX

MEASURED = (
    "geodesic_median_cm", "geodesic_mean_cm", "pck10", "auc30", "iou", "mask_iou", "coverage", "epipolar_median_px",
    "joint_cm", "left_right_exchanged", "joint_on_foreground",
)  # fmt: skip
"""Metrics that go on the card, where a test has them."""


def pack_weights(
    run: str | Path, name: str, card: str | Path, measured: Mapping[str, str] | None = None, folder: str | Path = FOLDER
) -> Path:
    """Write NAME.safetensors and NAME.json from the end of a run of `dkp fit`.

    Args:
        run: the run's folder.
        name: of the shipped detector.
        card: YAML file with the card's summary, licence, data, recipe and limits.
        measured: data set -> metrics.json of a `dkp test` with these weights.
        folder: where they are written.

    Returns:
        The weights file.

    Raises:
        InputError: a file is missing, or is not what it should be.
    """
    detector, config = run_detector(run)
    try:
        text = yaml.safe_load(Path(card).read_text(encoding="utf-8"))
        metrics = {where: read_metrics(Path(file)) for where, file in (measured or {}).items()}
    except (OSError, yaml.YAMLError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{card}: no card or no metrics can be read ({error})") from error
    file = save_detector(detector, Path(folder) / f"{name}{SUFFIX}", half=True)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    notes: dict[str, Any] = {
        **text, "surface": config["surface"], "size": config["size"], "sha256": digest, "metrics": metrics
    }  # fmt: skip
    return save_detector(detector, file, half=True, card=notes)


def read_metrics(file: Path) -> dict[str, float]:
    """Return what goes on the card of a metrics.json, to three decimals."""
    found = json.loads(file.read_text(encoding="utf-8"))["metrics"]
    values = {key.removeprefix("test/"): value for key, value in found.items()}
    return {key: round(float(values[key]), 3) for key in MEASURED if values.get(key) is not None}
