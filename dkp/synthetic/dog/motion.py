"""Plausible, smooth motion of dogs without any recorded data: activities made of key poses, and gaits.

Key poses are drawn from an activity and joined by monotone cubic curves, so no control leaves the range of its key
poses; walking and trotting add the rhythm of the legs.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator

from dkp.synthetic.dog.activities import ACTIVITIES, GAITS, ODD, SHARES, Gait, standing
from dkp.synthetic.dog.pose import CONTROLS, LEGS, RANGES, Build, dog_rotations
from dkp.synthetic.motion import Pose, Style, key_poses, mirrored, require_motion, wander


def sample_dog_motion(
    rng: np.random.Generator,
    frames: int,
    fps: float,
    activity: str | None = None,
    shape: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample a motion of a dog, with its own activities; else as :func:`dkp.synthetic.human.motion.sample_motion`."""
    require_motion(frames, fps, activity, ACTIVITIES)
    times = np.arange(frames) / fps
    rotations, root = dog_rotations(_sample_controls(rng, times, activity), Build.of_shape(shape))
    heading, position = wander(rng, times, turn=0.2, start=0.1, step=0.03, reach=0.25)
    around = np.tile(np.eye(4), (frames, 1, 1))
    around[:, 0, 0] = around[:, 2, 2] = np.cos(heading)
    around[:, 0, 2], around[:, 2, 0] = np.sin(heading), -np.sin(heading)
    around[:, [0, 2], 3] = position
    return rotations, (around @ root).astype(np.float32)


def _sample_controls(rng: np.random.Generator, times: np.ndarray, activity: str | None) -> np.ndarray:
    """Return the controls (T, C): key poses of one or several activities, joined, and the rhythm of gaits."""

    def draw(style: Style, other_side: bool) -> Pose:
        pose = standing(rng) | style()
        return mirrored(pose, ODD) if other_side else pose

    keys = key_poses(rng, float(times[-1]), activity, ACTIVITIES, SHARES, (0.6, 1.3), draw)
    table = np.array([[pose[name] for name in CONTROLS] for pose in keys.pose])
    controls = PchipInterpolator(keys.time, table)(times)
    for name, gait in GAITS.items():
        amount = PchipInterpolator(keys.time, [1.0 if name == one else 0.0 for one in keys.activity])(times)
        if amount.any():
            _add_steps(rng, gait, controls, times, amount)
    low, high = np.array(list(RANGES.values())).T
    return np.clip(controls, low, high)


def _add_steps(
    rng: np.random.Generator, gait: Gait, controls: np.ndarray, times: np.ndarray, amount: np.ndarray
) -> None:
    """Add a gait on the spot to controls (T, C) in place; ``amount`` (T,) in [0, 1] scales it."""
    column = {name: k for k, name in enumerate(CONTROLS)}
    rate, duty = rng.uniform(*gait.rate), rng.uniform(*gait.duty)
    step, lift = rng.uniform(*gait.step), rng.uniform(*gait.lift)
    stride = rate * times + rng.uniform()
    for leg, offset in zip(LEGS, gait.offset, strict=True):
        phase = (stride - offset) % 1.0
        swing = np.clip((phase - duty) / (1.0 - duty), 0.0, 1.0)
        # The paw stays where it is on the moving floor, then swings forwards in an arc.
        forward = np.where(swing > 0, -np.cos(np.pi * swing), 1.0 - 2.0 * np.minimum(phase / duty, 1.0))
        arc = np.sin(np.pi * swing)
        folded = np.sin(np.pi * np.sqrt(swing))
        push = np.clip((phase / duty - 0.75) / 0.25, 0.0, 1.0) * (swing == 0)
        fore = leg.endswith("fore")
        for name, value in (
            ("forward", step * forward),
            ("lift", lift * arc),
            ("foot", (60.0 if fore else 25.0) * folded + 8.0 * push),
            ("paw", (55.0 if fore else 35.0) * arc),
        ):
            controls[:, column[f"{leg}_{name}"]] += amount * value
    turn = 2 * np.pi * stride
    for name, value in (
        ("front", gait.bob * np.sin(2 * turn)),
        ("rear", gait.bob * np.sin(2 * turn + 1.0)),
        ("side", 4.0 * np.sin(turn + 0.5)),
        ("roll", 1.5 * np.sin(turn)),
        ("neck_pitch", 3.0 * np.sin(2 * turn + 0.8)),
        ("tail_wag", 10.0 * np.sin(turn)),
    ):
        controls[:, column[name]] += amount * value
