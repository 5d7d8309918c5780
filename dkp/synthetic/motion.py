"""What the motions of all species share: key poses of activities one after another, and a way over the floor."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator

from dkp.errors import InputError

Pose = dict[str, float]
"""Values by name; what is missing is taken from standing."""

Style = Callable[[], Pose]
"""Draws key poses of one style of an activity."""

Activities = Mapping[str, Callable[[np.random.Generator], Style]]
"""Activities by name: each draws a style of its own."""


class KeyPoses(NamedTuple):
    """Key poses over time, one entry each.

    Attributes:
        time: [s]; at least two, the first before 0 and the last after the end.
        pose: The poses.
        activity: Names of their activities.
    """

    time: list[float]
    pose: list[Pose]
    activity: list[str]


def require_motion(frames: int, fps: float, activity: str | None, known: Collection[str]) -> None:
    """Refuse a count, rate or name of an activity that makes no sense.

    Raises:
        InputError: one of them does not.
    """
    if frames < 1 or not fps > 0:
        raise InputError(
            f"motion: found {frames} frames at {fps} per second, expected at least one and a positive rate"
        )
    if activity is not None and activity not in known:
        raise InputError(f"motion: found activity '{activity}', expected one of {', '.join(known)}")


def key_poses(
    rng: np.random.Generator,
    span: float,
    activity: str | None,
    activities: Activities,
    shares: np.ndarray,
    pace: tuple[float, float],
    draw: Callable[[Style, bool], Pose],
) -> KeyPoses:
    """Draw key poses of one activity, or of several that change every few seconds.

    Args:
        rng: source of all randomness.
        span: time to fill [s].
        activity: name of the only activity; None draws them.
        activities: those that there are.
        shares: how often each is drawn.
        pace: range of the time from one key pose to the next [s].
        draw: makes a pose of a style, mirrored where the second argument says so.
    """
    result = KeyPoses([], [], [])
    now = -rng.uniform(0.0, 0.5)
    while now <= span or len(result.time) < 2:
        name = activity or str(rng.choice(list(activities), p=shares))
        other_side = bool(rng.integers(2))
        style = activities[name](rng)
        until = now + rng.uniform(2.5, 6.0)
        step = rng.uniform(*pace)
        while now < until:
            result.pose.append(draw(style, other_side))
            result.time.append(now)
            result.activity.append(name)
            now += step * rng.uniform(0.7, 1.3)
    return result


def wander(
    rng: np.random.Generator, times: np.ndarray, *, turn: float, start: float, step: float, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return a slow way over the floor that begins near the origin and faces any way.

    Args:
        rng: source of all randomness.
        times: (T,) [s].
        turn: standard deviation of the change of direction in 1.5 s [radians].
        start: greatest first distance from the origin along each axis [m].
        step: standard deviation of the move in 1.5 s [m].
        reach: greatest distance from the origin along each axis [m].

    Returns:
        Heading (T,) [radians] and position (T, 2) [m].
    """
    span = max(float(times[-1]), 1.0)
    keys = np.linspace(0.0, span, max(2, int(np.ceil(span / 1.5)) + 1))
    heading = rng.uniform(-np.pi, np.pi) + np.cumsum(rng.normal(0.0, turn, len(keys)))
    way = rng.uniform(-start, start, (1, 2)) + np.cumsum(rng.normal(0.0, step, (len(keys), 2)), axis=0)
    return PchipInterpolator(keys, heading)(times), PchipInterpolator(keys, np.clip(way, -reach, reach))(times)


def mirrored(pose: Pose, odd: Collection[str]) -> Pose:
    """Mirror a pose: left and right exchanged, and the values named ``odd`` with the other sign."""
    swap = {"left": "right", "right": "left"}
    result = {}
    for name, value in pose.items():
        side, _, rest = name.partition("_")
        result[f"{swap[side]}_{rest}" if side in swap else name] = -value if name in odd else value
    return result
