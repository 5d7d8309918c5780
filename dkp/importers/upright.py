"""Images of cameras that were mounted askew, turned upright: detectors know people who stand on the ground."""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from dkp.captures.arrays import one_of
from dkp.geometry import Camera, upright

Up = Literal["auto", "none", "x", "-x", "y", "-y", "z", "-z"]

LEAST_TURN = 10.0
"""Roll of a camera from which its images are turned [degrees]."""
_STEEP = 0.5  # cosine between the image plane and what is up, below which a camera looks along it: nothing is up there
_AGREE = 0.7  # median cosine between the cameras' own and their common up, below which they have none


def turns(cameras: Mapping[str, Camera], up: Up = "auto") -> dict[str, np.ndarray | None]:
    """Return how the image of each camera is turned so that what is up in the world is up in it.

    Args:
        cameras: of the rig, by name.
        up: the axis of the world that points up; "auto" takes what is up in most images, where they agree, and
            "none" turns nothing.

    Returns:
        Camera -> (2, 2) rotation of pixels, x right and y down; None where the image stays: within `LEAST_TURN` of
        upright, or seen from nearly above or below.

    Raises:
        InputError: ``up`` is none of these words.
    """
    one_of(up, get_args(Up), "up")
    poses = {name: camera.rotation.double().numpy() for name, camera in cameras.items()}
    if up == "auto":
        axis = upright(cameras.values())
        if np.median([-pose[1] @ axis for pose in poses.values()]) < _AGREE:
            up = "none"
    else:
        axis = (-1.0 if up.startswith("-") else 1.0) * np.eye(3)["xyz".find(up[-1])]
    return {name: None if up == "none" else _turn(*(pose @ axis)[:2]) for name, pose in poses.items()}


def turned_sentence(turned: Mapping[str, np.ndarray | None]) -> str:
    """Say which cameras' crops are turned, and by how much they were askew; "" where none is."""
    askew = [f"{name} ({roll(turn):+.0f}°)" for name, turn in turned.items() if turn is not None]
    return f"images are askew, so crops are turned upright: {', '.join(askew)}" if askew else ""


def roll(turn: np.ndarray) -> float:
    """Return by how much what an image shows was turned clockwise [degrees], before it was turned back."""
    return float(np.degrees(np.arctan2(turn[0, 1], turn[0, 0])))


def _turn(across: float, down: float) -> np.ndarray | None:
    angle = np.arctan2(across, -down)
    if np.hypot(across, down) < _STEEP or abs(np.degrees(angle)) < LEAST_TURN:
        return None
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, sine], [-sine, cosine]])
