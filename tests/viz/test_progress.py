"""The picture of a training."""

import numpy as np
import pytest

from dkp.errors import InputError
from dkp.surface import Surface
from dkp.viz import Moment, progress_figure

SURFACE = Surface.plane(0.4, 0.4, 0.1)


def moment(title, error):
    foreground = np.zeros((2, 8, 8))
    foreground[:, 2:6, 2:6] = 1
    return Moment(title, np.full((2, 3, 8, 8), 0.2), foreground, error)


def test_every_moment_has_a_column_with_its_median_error(tmp_path):
    error = np.full((2, 8, 8), np.inf)
    error[0, 2:6, 2:4] = 3.0
    images = np.random.default_rng(0).random((2, 3, 16, 16))
    figure = progress_figure(
        images, [moment("step 0", error), moment("step 9", np.full((2, 8, 8), 1.0))], SURFACE, path=tmp_path / "p.png"
    )
    assert (tmp_path / "p.png").is_file()
    titles = [axes.get_title() for axes in figure.axes]
    assert [title for title in titles if title] == ["step 0", "step 9"]
    labels = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert sorted(labels) == ["1.0 px, 100%", "1.0 px, 100%", "3.0 px, 50%", "no match"]


def test_it_takes_a_pair_of_views():
    with pytest.raises(InputError, match="found 1 images and 1 moments"):
        progress_figure(np.zeros((1, 3, 8, 8)), [moment("step 0", np.zeros((2, 8, 8)))], SURFACE)
