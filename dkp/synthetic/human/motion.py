"""Plausible, smooth human motion without any recorded data: activities made of key poses within joint limits.

A pose is a vector of anatomical angles [degrees], all zero for a person standing upright with the arms hanging. Key
poses are drawn from an activity, joined by monotone cubic curves (so no angle leaves the range of its key poses) and
turned into the local bone rotations of :class:`dkp.synthetic.body.SkinnedBody`. The ranges were set by eye.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from dkp.synthetic.body import load_body
from dkp.synthetic.human.activities import ACTIVITIES, ODD, SHARES, standing
from dkp.synthetic.human.anatomy import ANGLES, LIMITS, bone_rotations
from dkp.synthetic.motion import Pose, Style, key_poses, mirrored, require_motion, wander

SKIN = {"heel": 0.025, "toe": 0.025, "knee": 0.055}
"""How far below a joint the skin is that may touch the floor [m]."""

_SIDES = ("left", "right")


def sample_motion(
    rng: np.random.Generator,
    frames: int,
    fps: float,
    activity: str | None = None,
    shape: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample a motion of the human body.

    Args:
        rng: source of all randomness.
        frames: number T of frames.
        fps: frames per second.
        activity: a name in :data:`ACTIVITIES`; by default drawn at random, changing every few seconds.
        shape: (S,) shape coefficients of the body that is to stand on the floor; the mean body by default.

    Returns:
        Local rotations (T, J, 3, 3) for ``SkinnedBody.pose`` and root maps (T, 4, 4) [m] into a world with y up and
        the floor at y = 0. The person stays near the origin and faces any way.

    Raises:
        InputError: for a count, rate or name that makes no sense.
    """
    require_motion(frames, fps, activity, ACTIVITIES)
    times = np.arange(frames) / fps
    angles = _sample_angles(rng, times, activity)
    return _with_root(rng, angles, times, shape)


def _with_root(
    rng: np.random.Generator, angles: np.ndarray, times: np.ndarray, shape: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Bone rotations, and root maps that turn the person some way and put the lower foot on the floor."""
    rotations = bone_rotations(angles)
    heading, position = wander(rng, times, turn=0.25, start=0.15, step=0.04, reach=0.35)
    root = np.tile(np.eye(4, dtype=np.float32), (len(times), 1, 1))
    root[:, :3, :3] = Rotation.from_rotvec(heading[:, None] * [0, 1, 0]).as_matrix()
    root[:, [0, 2], 3] = position
    for k in range(len(times)):
        joints = load_body("human").joint_positions(shape, rotations[k])
        root[k, 1, 3] = -min(float(joints[f"{side}_{name}"][1]) - SKIN[name] for side in _SIDES for name in SKIN)
    return rotations, root


def _sample_angles(rng: np.random.Generator, times: np.ndarray, activity: str | None) -> np.ndarray:
    """Angles (T, A) [degrees]: key poses of one or several activities, joined; walking adds its own rhythm."""

    def draw(style: Style, other_side: bool) -> Pose:
        return _acceptable_pose(rng, style, other_side)

    keys = key_poses(rng, float(times[-1]), activity, ACTIVITIES, SHARES, (0.45, 1.1), draw)
    table = np.array([[pose[name] for name in ANGLES] for pose in keys.pose])
    angles = PchipInterpolator(keys.time, table)(times)
    stride = PchipInterpolator(keys.time, [1.0 if name == "walk" else 0.0 for name in keys.activity])(times)
    if stride.any():
        _add_steps(rng, angles, times, stride)
    low, high = np.array(list(LIMITS.values())).T
    return np.clip(angles, low, high)


def _add_steps(rng: np.random.Generator, angles: np.ndarray, times: np.ndarray, amount: np.ndarray) -> None:
    """Add walking on the spot, as on a treadmill, to angles (T, A) in place; ``amount`` (T,) in [0, 1] scales it."""
    column = {name: k for k, name in enumerate(ANGLES)}
    phase = 2 * np.pi * (rng.uniform(0.6, 1.1) * times + rng.uniform())
    swing, lift, arms = rng.uniform(16, 30), rng.uniform(40, 65), np.radians(rng.uniform(5, 30))
    for side, shift in (("left", 0.0), ("right", np.pi)):
        at = phase + shift
        hip = swing * np.sin(at) + 6
        knee = 6 + lift * np.clip(np.cos(at + 0.35), 0, None) ** 2 + 8 * np.clip(np.sin(at), 0, None)
        # On the ground, while the leg moves backwards, the sole is level until the heel lifts and the foot pushes off.
        grounded = 1.0 / (1.0 + np.exp(6.0 * np.cos(at)))
        ankle = grounded * np.clip(knee - hip, -18, 12) - 16 * np.clip(-np.sin(at - 0.4), 0, None) ** 3
        for name, value in (("hip_flex", hip), ("knee", knee), ("ankle", ankle)):
            angles[:, column[f"{side}_{name}"]] += amount * value
        raised = np.radians(angles[:, column[f"{side}_arm_raise"]])
        direction = np.radians(angles[:, column[f"{side}_arm_forward"]])
        # A hanging arm swings against its leg; a raised one does not.
        hanging = amount * np.clip(1.0 - raised / np.radians(45), 0.0, 1.0)
        sideways = np.sin(raised) * np.cos(direction)
        forwards = np.sin(raised) * np.sin(direction) - hanging * np.sin(arms * np.sin(at))
        swung = np.degrees(np.arcsin(np.clip(np.hypot(sideways, forwards), 0.0, 1.0)))
        turned = np.degrees(np.arctan2(forwards, sideways))
        angles[:, column[f"{side}_arm_raise"]] = np.where(hanging > 0, swung, np.degrees(raised))
        angles[:, column[f"{side}_arm_forward"]] = np.where(hanging > 0, turned, np.degrees(direction))
    angles[:, column["spine_twist"]] += amount * np.degrees(0.2 * arms) * np.sin(phase)


def _acceptable_pose(rng: np.random.Generator, style: Style, other_side: bool) -> Pose:
    """Return a pose of the style within the limits, drawn again (at most 20 times) while limbs run through the body."""
    best: Pose = {}
    best_gap = -np.inf
    for _ in range(20):
        drawn = standing(rng) | style()
        pose = {name: float(np.clip(drawn[name], *LIMITS[name])) for name in ANGLES}
        if other_side:
            pose = mirrored(pose, ODD)
        gap = _clearance(pose)
        if gap > best_gap:
            best, best_gap = pose, gap
        if gap > 0.0:
            break
    return best


def _clearance(pose: Pose) -> float:
    """How far forearms and hands keep from trunk, head, thighs and each other [m]; negative where they meet."""
    angles = np.array([[pose[name] for name in ANGLES]])
    joints = load_body("human").joint_positions(None, bone_rotations(angles)[0])
    chest = 0.5 * (joints["left_shoulder"] + joints["right_shoulder"])
    across = joints["left_shoulder"] - joints["right_shoulder"]
    across = across / np.linalg.norm(across)
    share = np.linspace(0.0, 1.0, 5)[:, None]
    blocks = [(joints["mid_hip"] + s * across * 0.07, chest + s * across * 0.07, 0.125) for s in (-1.0, 1.0)]
    blocks.append((joints["neck"], joints["head"], 0.10))
    for side in _SIDES:
        blocks.append((joints[f"{side}_hip"], joints[f"{side}_knee"], 0.085))
        blocks.append((joints[f"{side}_knee"], joints[f"{side}_ankle"], 0.06))
    gap = np.inf
    forearms = {}
    for side in _SIDES:
        elbow, wrist = joints[f"{side}_elbow"], joints[f"{side}_wrist"]
        tip = wrist + 0.6 * (wrist - elbow)
        points = np.concatenate([elbow + share[1:] * (wrist - elbow), wrist + share[1:] * (tip - wrist)])
        forearms[side] = points
        for start, end, radius in blocks:
            gap = min(gap, float(_distance_to_segment(points, start, end).min()) - radius - 0.04)
    between = np.linalg.norm(forearms["left"][:, None] - forearms["right"][None], axis=-1)
    gap = min(gap, float(between.min()) - 0.07)
    shins = [joints[f"{side}_ankle"] + share * (joints[f"{side}_knee"] - joints[f"{side}_ankle"]) for side in _SIDES]
    return min(gap, float(np.linalg.norm(shins[0][:, None] - shins[1][None], axis=-1).min()) - 0.10)


def _distance_to_segment(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    axis = end - start
    along = np.clip((points - start) @ axis / max(float(axis @ axis), 1e-9), 0.0, 1.0)
    return np.linalg.norm(points - start - along[:, None] * axis, axis=1)
