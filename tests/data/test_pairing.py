"""Tests of the choice of pairs and views."""

import numpy as np
import pytest

from dkp.data import CaptureImages, Pairing
from dkp.data.pairing import choose_views, pairs_among, pairs_of_instants
from dkp.errors import InputError
from dkp.surface import Surface


def test_pairs_follow_the_angles(capture):
    images = CaptureImages(capture, "train", 64, labels=False)
    pairs = pairs_of_instants(images, Pairing())
    assert len(pairs) == 2
    assert pairs[0].tolist() == [[0, 1], [0, 2], [1, 2], [2, 3]], "0-180 and 40-180 degrees are opposed"
    assert pairs_of_instants(images)[0].tolist() == pairs[0].tolist()
    assert pairs_of_instants(images, Pairing(min_angle=50))[0].tolist() == [[0, 2], [2, 3]]
    assert pairs_of_instants(images, Pairing(min_angle=1, max_angle=5))[0].tolist() == []


def test_cameras_that_face_each_other_count_for_something_flat(capture):
    images = CaptureImages(capture, "train", 64, labels=False)
    images.surface = Surface.plane(1.0, 1.0, 0.25)
    every = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert pairs_of_instants(images)[0].tolist() == every
    assert pairs_of_instants(images, Pairing())[0].tolist() == [[0, 1], [0, 2], [1, 2], [2, 3]], "as asked for"


def test_chosen_views_form_pairs():
    pairs = np.array([[0, 1], [1, 2], [3, 4]])
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        chosen = choose_views(rng, 6, pairs, 2)
        assert chosen.tolist() in pairs.tolist()
        seen.add(tuple(chosen))
        three = choose_views(rng, 6, pairs, 3)
        assert len(set(three.tolist())) == 3
        assert pairs_among(three, pairs, 3)[1].sum() >= 1
    assert len(seen) == 3


def test_views_without_pairs_are_still_chosen():
    chosen = choose_views(np.random.default_rng(0), 5, np.zeros((0, 2), int), 3)
    assert len(set(chosen.tolist())) == 3
    assert choose_views(np.random.default_rng(0), 2, np.zeros((0, 2), int), 3).tolist() == [0, 1]
    assert len(choose_views(np.random.default_rng(0), 4, np.array([[0, 1]]), 1)) == 1


def test_pairs_among_chosen_views():
    padded, valid = pairs_among(np.array([1, 3, 4]), np.array([[0, 1], [1, 4], [3, 4]]), 4)
    assert padded.tolist() == [[0, 2], [1, 2], [0, 0], [0, 0]]
    assert valid.tolist() == [True, True, False, False]


def test_bad_angles():
    with pytest.raises(InputError, match=r"pairing\.min_angle"):
        Pairing(min_angle=90, max_angle=20)
