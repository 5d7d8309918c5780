"""Coats: markings are where they belong, colours and shapes vary."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dkp.surface import Surface
from dkp.synthetic.body import SkinnedBody
from dkp.synthetic.dog.coat import Coat, fur, hair_colour, paint_coat, sample_coat
from dkp.synthetic.dog.domains import DOG_DOMAINS
from dkp.synthetic.dog.regions import DogRegions
from dkp.synthetic.domains import CHOICES
from dkp.synthetic.species import SPECIES

BROWN, WHITE, BLACK, TAN = (
    np.array(c) for c in ([0.2, 0.1, 0.04], [0.7, 0.7, 0.7], [0.01, 0.01, 0.01], [0.5, 0.2, 0.05])
)


@pytest.fixture(scope="module")
def regions() -> DogRegions:
    return DogRegions(Surface.load("dog"), SkinnedBody.load("dog"))


def coat(**changes: object) -> Coat:
    """A plain brown coat without noise and collar."""
    base = sample_coat(DOG_DOMAINS["varied"].wardrobe, np.random.default_rng(0))
    plain = {
        "marking": "solid", "ground": BROWN, "light": WHITE, "dark": BLACK, "tan": TAN, "socks": 1.5, "extent": 0.5,
        "blaze": 0.015, "collar": None, "pale": 0.0, "length": 0.0, "noise": np.zeros((4, 4, 4), np.float32),
    }  # fmt: skip
    return dataclasses.replace(base, **(plain | changes))  # type: ignore[arg-type]


def is_near(colour: np.ndarray, shade: np.ndarray) -> np.ndarray:
    return np.abs(colour - shade).max(1) < 0.03


def test_places_are_measured_along_the_body(regions: DogRegions) -> None:
    region, joints = regions.vertices(), regions.joints

    def at(name: str) -> int:
        return int(np.linalg.norm(regions.columns[:, :3] - joints[name], axis=1).argmin())

    for name, expected in (("left_elbow", 1), ("right_wrist", 2), ("left_knee", 1), ("right_hock", 2)):
        assert abs(region.leg[at(name)] - expected) < 0.3, name
    assert region.leg[at("left_hind_paw")] > 2.7
    assert region.tail[at("tail_tip")] > 0.9
    assert region.ear[at("left_ear_tip")] > 0.85
    assert region.on_ear[at("right_ear_tip")] > 0.9
    assert region.on_head[at("nose")] > 0.9
    assert 20 < (region.in_mouth > 0.5).sum() < 600


def test_socks_of_points_are_below_the_knee_and_the_back_keeps_its_colour(regions: DogRegions) -> None:
    colour, _ = paint_coat(coat(marking="points"), regions, regions.columns)
    region = regions.vertices()
    low = (region.on_leg > 0.9) & (region.leg > 1.7) & (region.under < 0.5)
    assert is_near(colour, TAN)[low].mean() > 0.95
    back = (region.on_leg < 0.1) & (region.on_head < 0.1) & (region.on_tail < 0.1) & (region.under < -0.5)
    assert is_near(colour, BROWN)[back].mean() > 0.99


def test_a_saddle_lies_on_the_back_and_a_mask_on_the_muzzle(regions: DogRegions) -> None:
    region = regions.vertices()
    saddled, _ = paint_coat(coat(marking="saddle", extent=0.45), regions, regions.columns)
    trunk = (region.on_leg < 0.1) & (region.on_head < 0.1) & (region.on_tail < 0.1) & (region.front < 0.15)
    assert is_near(saddled, BLACK)[trunk & (region.under < -0.7)].mean() > 0.95
    assert is_near(saddled, BLACK)[trunk & (region.under > 0.5)].mean() < 0.05
    masked, _ = paint_coat(coat(marking="mask"), regions, regions.columns)
    assert is_near(masked, BLACK)[(region.on_head > 0.9) & (region.front > 0.47) & (region.in_mouth < 0.5)].mean() > 0.9
    assert is_near(masked, BROWN)[trunk].all()


@pytest.mark.parametrize("marking", [name for name in CHOICES["markings"] if name != "solid"])
def test_markings_show_beside_the_ground(regions: DogRegions, marking: str) -> None:
    noise = sample_coat(DOG_DOMAINS["varied"].wardrobe, np.random.default_rng(1)).noise
    marked, _ = paint_coat(coat(marking=marking, noise=noise), regions, regions.columns)
    plain, _ = paint_coat(coat(noise=noise), regions, regions.columns)
    share = (np.abs(marked - plain).max(1) > 0.05).mean()
    assert 0.03 < share < 0.97


def test_left_and_right_are_marked_alike_without_noise(regions: DogRegions) -> None:
    mirror = Surface.load("dog").mirror
    for marking in ("points", "saddle", "mask", "bicolour"):
        colour, _ = paint_coat(coat(marking=marking), regions, regions.columns)
        assert (np.abs(colour - colour[mirror]).max(1) < 0.01).mean() > 0.99


def test_a_collar_goes_around_the_neck(regions: DogRegions) -> None:
    colour, _ = paint_coat(coat(collar=np.array([0.05, 0.05, 0.9])), regions, regions.columns)
    worn = colour[:, 2] > 0.5
    assert 10 < worn.sum() < 300
    region = regions.vertices()
    assert region.on_neck[worn].min() > 0.5
    assert np.ptp(region.left[worn]) > 0.08


def test_eyes_and_nose_are_dark(regions: DogRegions) -> None:
    colour, gloss = paint_coat(coat(ground=WHITE, iris=np.array([0.02, 0.01, 0.01])), regions, regions.columns)
    for name in ("nose", "left_eye", "right_eye"):
        nearest = np.linalg.norm(regions.columns[:, :3] - regions.joints[name], axis=1).argmin()
        assert colour[nearest].max() < 0.1
        assert gloss[nearest] > 0.2


def test_long_hair_stands_off_but_not_on_the_face(regions: DogRegions) -> None:
    short, long = fur(coat(), regions), fur(coat(length=0.012), regions)
    assert not short.any()
    region = regions.vertices()
    assert long.min() >= 0
    assert long[:, 0].max() < 0.03
    assert long[(region.on_leg < 0.1) & (region.on_head < 0.1) & (region.on_tail < 0.1), 0].mean() > 0.01
    assert long[region.on_head > 0.95, 0].mean() < 0.005


def test_hair_colours_span_white_black_and_red() -> None:
    assert hair_colour(0.0, 0.0).min() > 0.6
    assert hair_colour(1.0, 0.0).max() < 0.02
    red = hair_colour(0.5, 1.0)
    assert red[0] > 4 * red[2]


def test_dogs_differ_and_the_same_seed_gives_the_same_dog(regions: DogRegions) -> None:
    domain = DOG_DOMAINS["varied"]

    def look(seed: int) -> np.ndarray:
        dog = SPECIES["dog"].sample_subject(domain, np.random.default_rng(seed))
        return np.concatenate([dog.paint(regions.columns)[0].ravel(), dog.stand_off.ravel()])

    looks = [look(seed) for seed in range(12)]
    np.testing.assert_array_equal(looks[3], look(3))
    assert min(np.abs(a - b).mean() for k, a in enumerate(looks) for b in looks[:k]) > 0.003
    means = [values[: 3 * len(regions.columns)].mean() for values in looks]
    assert np.ptp(means) > 0.2
