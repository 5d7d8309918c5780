"""Clothes end where they should."""

import dataclasses

import numpy as np
import pytest

from dkp.surface import Surface
from dkp.synthetic.domains import DOMAINS
from dkp.synthetic.human.appearance import paint, sample_outfit, thickness
from dkp.synthetic.human.regions import BodyRegions
from dkp.synthetic.noise import choose, fractal, linear, lookup, random_colour, skin_colour


@pytest.fixture(scope="module")
def surface():
    return Surface.load("human")


@pytest.fixture(scope="module")
def regions(surface):
    return BodyRegions(surface)


def outfit(**changes):
    """A fair-skinned person in a red T-shirt, blue shorts and green shoes."""
    base = sample_outfit(DOMAINS["varied"].wardrobe, np.random.default_rng(0))

    def cloth(colour):
        return dataclasses.replace(base.top, pattern="plain", colours=np.tile(np.array(colour, float), (3, 1)))

    return dataclasses.replace(
        base,
        **{
            "skin": np.array([0.6, 0.4, 0.3]), "hair": "short", "beard": False, "hat": "none",
            "top": cloth([0.8, 0.02, 0.02]), "sleeve": 0.5, "hem": 0.1, "neckline": 0.0,
            "bottom": cloth([0.02, 0.02, 0.8]), "legs": 0.7, "waist": 0.2,
            "shoe": cloth([0.02, 0.8, 0.02]), "shoe_top": 2.02, "sock_top": 2.02,
        } | changes,
    )  # fmt: skip


def kind(colour):
    """Which channel dominates: 0 top, 1 shoe, 2 bottom, 3 anything else."""
    order = np.sort(colour, 1)
    return np.where(order[:, 2] > 4 * order[:, 1], colour.argmax(1), 3)


def nearest(surface, point):
    return int(np.linalg.norm(surface.vertices - point, axis=1).argmin())


def test_limbs_are_measured_from_joint_to_joint(surface, regions):
    region = regions.vertices()
    for side in ("left", "right"):
        for joint, limb, expected in (
            ("elbow", region.arm, 1), ("wrist", region.arm, 2), ("knee", region.leg, 1), ("ankle", region.leg, 2)
        ):  # fmt: skip
            assert abs(limb[nearest(surface, surface.joints[f"{side}_{joint}"])] - expected) < 0.25, (side, joint)
    assert not region.arm[region.on_arm == 0].any()
    assert not region.leg[region.on_leg == 0].any()
    assert abs(region.head_up[nearest(surface, surface.joints["left_eye"])]) < 0.02
    assert region.left[nearest(surface, surface.joints["left_wrist"])] > 0.3


def test_clothes_cover_the_parts_they_are_made_for(surface, regions):
    colour, _ = paint(outfit(), regions, regions.columns)
    what = kind(colour)

    def at(joint, towards=None, share=0.0):
        point = surface.joints[joint]
        if towards is not None:
            point = point + share * (surface.joints[towards] - point)
        return what[nearest(surface, point)]

    for side in ("left", "right"):
        assert at(f"{side}_shoulder", f"{side}_elbow", 0.3) == 0
        assert at(f"{side}_shoulder", f"{side}_elbow", 0.8) == 3
        assert at(f"{side}_wrist") == 3
        assert at(f"{side}_hip", f"{side}_knee", 0.4) == 2
        assert at(f"{side}_knee") == 3
        assert at(f"{side}_toe") == 1
        assert at(f"{side}_heel") == 1
    assert at("nose") == 3
    chest = (surface.joints["left_shoulder"] + surface.joints["right_shoulder"]) / 2 - [0, 0.1, 0]
    assert what[nearest(surface, chest)] == 0


def test_long_sleeves_bare_torso_and_dress(surface, regions):
    bare, _ = paint(outfit(sleeve=-1.0), regions, regions.columns)
    assert not (kind(bare) == 0).any()
    long_sleeves, _ = paint(outfit(sleeve=1.9), regions, regions.columns)
    for joint in ("left_elbow", "right_elbow"):
        assert kind(long_sleeves)[nearest(surface, surface.joints[joint])] == 0
    assert kind(long_sleeves)[regions.vertices().arm > 2.2].tolist().count(0) == 0


def test_left_and_right_are_dressed_alike(surface, regions):
    look = dataclasses.replace(outfit(), noise=np.zeros((4, 4, 4), np.float32))
    colour, _ = paint(look, regions, regions.columns)
    assert (np.abs(colour - colour[surface.mirror]).max(1) < 0.01).mean() > 0.99


@pytest.mark.parametrize("pattern", ["stripes", "checks", "dots", "noise", "logo"])
def test_patterns_show_more_than_one_colour_on_the_torso(regions, pattern):
    base = outfit()
    colours = np.array([[0.8, 0.02, 0.02], [0.02, 0.8, 0.02], [0.02, 0.02, 0.8]])
    top = dataclasses.replace(base.top, pattern=pattern, colours=colours)
    colour, _ = paint(dataclasses.replace(base, top=top), regions, regions.columns)
    region = regions.vertices()
    torso = (region.on_arm == 0) & (region.on_leg == 0) & (region.on_head == 0) & (region.height > 0.3)
    share = np.bincount(kind(colour[torso]), minlength=4)[:3] / torso.sum()
    assert share[0] > 0.1
    assert share[1] > 0.02


def test_hair_and_caps_sit_on_the_head(surface, regions):
    region = regions.vertices()
    dark = {"hair_colour": np.full(3, 0.004), "skin": np.array([0.6, 0.4, 0.3])}
    crown = nearest(surface, surface.joints["head"])
    chin = (region.on_head > 0.9) & (region.head_up < -0.08) & (region.head_front > 0.05)
    for hair in ("short", "medium", "long"):
        colour, _ = paint(outfit(hair=hair, **dark), regions, regions.columns)
        assert colour[crown].max() < 0.02
        assert colour[chin].min() > 0.1
    bald, _ = paint(outfit(hair="bald", **dark), regions, regions.columns)
    assert bald[crown].min() > 0.1
    counts = [
        (paint(outfit(hair=h, **dark), regions, regions.columns)[0].max(1) < 0.02).sum()
        for h in ("short", "medium", "long")
    ]
    assert counts[0] < counts[1] < counts[2]


def test_cloth_stands_off_the_body_and_caps_have_a_brim(regions):
    off = thickness(outfit(looseness=0.01), regions)
    tight = thickness(outfit(looseness=0.0), regions)
    region = regions.vertices()
    torso = (
        (region.on_arm == 0)
        & (region.on_leg == 0)
        & (region.on_head == 0)
        & (region.height > 0.4)
        & (region.height < 0.7)
    )
    assert (off[torso, 0] - tight[torso, 0]).mean() > 0.005
    assert off[:, 0].min() >= 0
    assert off[:, 0].max() < 0.04
    assert not off[:, 1].any()
    brim = thickness(outfit(hat="cap"), regions)[:, 1]
    assert brim.max() > 0.03
    assert (region.head_front[brim > 0] > 0.05).all()


def test_red_hands_and_gloves(surface, regions):
    def colour(one, joint):
        return paint(one, regions, regions.columns)[0][nearest(surface, surface.joints[joint])]

    plain, red = outfit(sleeve=-1.0), outfit(sleeve=-1.0, flush=0.5)
    np.testing.assert_allclose(colour(plain, "left_shoulder"), colour(red, "left_shoulder"), rtol=1e-5)
    for joint in ("left_wrist", "right_wrist"):
        before, after = colour(plain, joint), colour(red, joint)
        assert (after < before).all()
        assert after[0] / after[1] > 1.1 * before[0] / before[1]
    glove = dataclasses.replace(plain.top, colours=np.tile([0.02, 0.02, 0.8], (3, 1)))
    gloved = kind(paint(outfit(glove=glove), regions, regions.columns)[0]) == 2
    arm = regions.vertices().arm
    assert gloved[arm > 2.1].all()
    assert not gloved[(arm > 0.6) & (arm < 1.9)].any()
    worn = [sample_outfit(DOMAINS["action"].wardrobe, np.random.default_rng(seed)).glove for seed in range(100)]
    assert 1 <= sum(one is not None for one in worn) <= 25


def test_noise_repeats_and_is_the_same_for_the_same_seed():
    noise = fractal((32, 32, 32), np.random.default_rng(1))
    assert abs(noise.mean()) < 1e-3
    assert abs(noise.std() - 1) < 1e-3
    np.testing.assert_array_equal(noise, fractal((32, 32, 32), np.random.default_rng(1)))
    points = np.random.default_rng(2).uniform(-1, 1, (50, 3))
    moved = points + np.array([0.5, -1.0, 1.5])
    np.testing.assert_array_equal(lookup(noise, points, 0.5), lookup(noise, moved, 0.5))
    near = np.abs(noise - np.roll(noise, 1, 0)).mean()
    far = np.abs(noise - np.roll(noise, 13, 0)).mean()
    assert near < 0.6 * far


def test_colours_stay_in_range():
    rng = np.random.default_rng(0)
    grey = random_colour(rng, (0, 0), (0.5, 0.5))
    np.testing.assert_allclose(grey, linear(np.full(3, 0.5)))
    colours = np.stack([random_colour(rng, (0, 1), (0, 1)) for _ in range(200)])
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert skin_colour(0.0, rng).mean() > 3 * skin_colour(1.0, rng).mean()
    drawn = [choose({"a": 0.0, "b": 3.0, "c": 1.0}, rng) for _ in range(400)]
    assert set(drawn) == {"b", "c"}
    assert 0.65 < drawn.count("b") / 400 < 0.85
