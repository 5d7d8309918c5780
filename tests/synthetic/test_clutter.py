"""Pictures of clutter."""

import cv2
import numpy as np
import pytest

from dkp.errors import InputError
from dkp.synthetic.clutter import clutter, synthesize_backgrounds


def edges(picture: np.ndarray) -> float:
    """Mean difference of neighbouring pixels, of 255."""
    return float(np.abs(np.diff(picture.astype(float), axis=0)).mean())


def test_pictures_differ_and_are_full_of_edges():
    pictures = [clutter(np.random.default_rng(seed), 96) for seed in range(12)]
    assert all(one.shape == (96, 96, 3) and one.dtype == np.uint8 for one in pictures)
    assert len({one.tobytes() for one in pictures}) == 12
    np.testing.assert_array_equal(pictures[3], clutter(np.random.default_rng(3), 96))
    assert np.median([edges(one) for one in pictures]) > 3


def test_folder(tmp_path):
    synthesize_backgrounds(tmp_path / "a", count=3, size=48, seed=5)
    synthesize_backgrounds(tmp_path / "b", count=2, size=48, seed=5)
    first, second = (sorted((tmp_path / name).iterdir()) for name in "ab")
    assert [path.name for path in first] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    assert [path.read_bytes() for path in first[:2]] == [path.read_bytes() for path in second]
    assert cv2.imread(str(first[0])).shape == (48, 48, 3)
    with pytest.raises(InputError, match="count is 0"):
        synthesize_backgrounds(tmp_path, count=0)
