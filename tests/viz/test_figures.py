"""dkp/viz/figures.py: what is drawn, and where."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from dkp.errors import InputError
from dkp.surface import Surface
from dkp.viz.colours import CoordinateColours
from dkp.viz.figures import FieldRow, as_images, draw_field, draw_template, field_figure, overlay

BOARD = Surface.plane(width=1.0, height=1.0, spacing=0.25)
CELLS = 12


def board_field(views):
    """Every view sees the board fill the middle of the crop, upright."""
    at = (np.arange(CELLS) + 0.5) / CELLS
    x, y = np.meshgrid(at, at)
    coordinate = np.stack([x, y, 0 * x]) * 2 - 0.5
    coordinate[2] = 0
    foreground = ((coordinate[:2] > 0) & (coordinate[:2] < 1)).all(axis=0).astype(float)
    return np.repeat(coordinate[None], views, 0), np.repeat(foreground[None], views, 0)


def test_images_of_either_layout():
    image = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), dtype=np.uint8)
    as_tensor = torch.tensor(image).permute(0, 3, 1, 2) / 255
    np.testing.assert_allclose(as_images(image), as_images(as_tensor), atol=1e-6)
    with pytest.raises(InputError, match="images"):
        as_images(np.zeros((8, 6, 3)))


def test_field_figure_has_a_tile_for_each_view_and_row_and_the_legend(tmp_path):
    coordinate, foreground = board_field(3)
    rows = [
        FieldRow("teacher", torch.tensor(coordinate).half(), torch.tensor(foreground)),
        FieldRow("adapted", coordinate, foreground.astype(bool)),
    ]
    path = tmp_path / "new" / "figure.png"
    figure = field_figure(np.full((3, 3, 24, 24), 0.5), rows, BOARD, view_titles=["a", "b", "c"], title="T", path=path)
    assert len(figure.axes) == 3 * 3 + 1
    written = [axes.get_title() for axes in figure.axes] + [axes.get_ylabel() for axes in figure.axes]
    assert {"a", "b", "c", "image", "teacher", "adapted", "surface"} <= set(written)
    assert imread(path).shape[1] > 3 * 200


def test_a_body_is_shown_from_both_sides(doll):
    field = np.zeros((1, 3, 4, 4))
    figure = field_figure(np.zeros((1, 3, 8, 8)), [FieldRow("label", field, np.ones((1, 4, 4)))], doll)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[-2:] == ["front", "back"]
    assert [text.get_text() for text in figure.axes[-1].texts] == ["R", "L"]
    assert figure.axes[-2].texts[0].get_position()[0] < 0.5 < figure.axes[-1].texts[0].get_position()[0]


def test_front_view_has_the_left_side_on_the_right(doll):
    axes = Figure().add_subplot()
    colours = CoordinateColours(doll)
    for back in (False, True):
        axes.clear()
        draw_template(axes, doll, colours, back=back)
        collection = axes.collections[0]
        for path, colour in zip(collection.get_paths(), collection.get_facecolors(), strict=True):
            warm, to_the_right = colour[0] > colour[2], path.vertices[:3, 0].mean() > 0
            assert warm == (to_the_right != back)
        assert len(collection.get_paths()) == 8  # the four quads that face the viewer


def test_draw_field_shows_the_foreground_only_in_the_colours_of_the_surface():
    coordinate, foreground = board_field(1)
    axes = Figure().add_subplot()
    colours = CoordinateColours(BOARD)
    draw_field(axes, np.zeros((36, 36, 3)), coordinate[0], foreground[0], colours)
    shown = np.asarray(axes.images[-1].get_array())
    assert shown.shape == (36, 36, 4)
    shown = shown[1::3, 1::3]  # the pixels in the middle of cells
    np.testing.assert_array_equal(shown[..., 3] > 0, foreground[0] > 0.5)
    np.testing.assert_allclose(shown[5, 6, :3], colours(coordinate[0, :, 5, 6]), atol=1e-6)
    assert axes.get_xlim() == (0, 36)
    assert axes.get_ylim() == (36, 0)


def test_a_view_without_foreground_and_one_full_of_it_can_be_drawn(tmp_path):
    coordinate, _ = board_field(2)
    foreground = np.stack([np.zeros((CELLS, CELLS)), np.ones((CELLS, CELLS))])
    coordinate[1, :, 0, 0] = np.nan
    field_figure(np.zeros((2, 3, 24, 24)), [FieldRow("x", coordinate, foreground)], BOARD, path=tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_shapes_are_checked():
    coordinate, foreground = board_field(2)
    with pytest.raises(InputError, match="'teacher'"):
        field_figure(np.zeros((3, 3, 24, 24)), [FieldRow("teacher", coordinate, foreground)], BOARD)


def test_fields_are_drawn_at_the_images_resolution_and_only_inside_of_their_outline():
    """Between two cells colours blend, and what lies outside has no part in it."""
    colour = np.zeros((4, 4, 3))
    colour[:, 1], colour[:, 2], colour[:, 3] = [1, 0, 0], [0, 0, 1], [0, 1, 0]
    foreground = np.zeros((4, 4))
    foreground[:, 1:3] = 1
    drawn = overlay(colour, foreground > 0.5, foreground, (32, 32))
    assert drawn.shape == (32, 32, 4)
    there = drawn[..., 3] > 0
    assert there[:, 9:23].all()
    assert not there[:, :7].any()
    assert not there[:, 25:].any()
    assert drawn[there][:, 1].max() < 1e-6, "no green of a cell outside"
    middle = drawn[16, 15:17, :3]
    np.testing.assert_allclose(middle, 0.5 * np.array([[1, 0, 1], [1, 0, 1]]), atol=0.1)
    assert len(np.unique(drawn[16, :, 0].round(3))) > 6, "no blocks"
