"""The detector of a run: as its configuration builds it, with the weights of a checkpoint."""

from pathlib import Path
from typing import Any

from dkp.config_files import CONFIG, run_config
from dkp.errors import InputError
from dkp.models import Detector, load_state, read_state

TRAINING = ("encoder_weights", "weights", "pretrained", "frozen")
"""Options of a detector that are about how it begins, not about what it is."""


def run_detector(source: str | Path) -> tuple[Detector, dict[str, Any]]:
    """Return the detector of a run in evaluation mode on the CPU, and the run's configuration.

    Args:
        source: folder of a run, whose last checkpoint is taken; or one of its checkpoints.

    Raises:
        InputError: a file is missing, or is not what it should be.
    """
    source = Path(source)
    checkpoint = source if source.suffix == ".ckpt" else source / "checkpoints" / "last.ckpt"
    config = run_config(checkpoint.parents[1] / CONFIG)
    try:
        options = dict(config["model"]["init_args"]["detector"]["init_args"])
        detector = Detector(**{key: value for key, value in options.items() if key not in TRAINING})
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{checkpoint.parents[1] / CONFIG} describes no detector of dkp ({error})") from error
    load_state(detector, read_state(checkpoint), checkpoint)
    return detector.eval(), config
