"""Exact optical flow."""

import dataclasses

import numpy as np
import pytest
import torch

from dkp.errors import InputError
from dkp.synthetic.flow import flow
from dkp.synthetic.rasteriser import interpolate


def consecutive(capture):
    return [v for v in capture.views if v.sequence == "s00" and v.camera == "cam_01"][:2]


def test_flow_carries_surface_points_to_where_the_next_image_shows_them(rendered):
    view, after = consecutive(rendered)
    displacement, valid = flow(rendered, view, after)
    label, next_label = rendered.label(view), rendered.label(after)
    assert valid.sum() > 0.7 * (label.face >= 0).sum()
    assert not valid[label.face < 0].any()
    assert not displacement[~valid].any()
    rows, columns = np.nonzero(valid)
    target = displacement[rows, columns] + np.stack([columns, rows], 1) + 0.5
    points = interpolate(
        rendered.truth(after.frame), rendered.surface.faces, label.face[rows, columns], label.barycentric[rows, columns]
    )
    expected, _ = rendered.camera(after).project(torch.from_numpy(points))
    np.testing.assert_allclose(target, expected.numpy(), atol=1e-3)
    # The label at the landing pixel shows the same place of the template, to the size of a pixel.
    column, row = np.floor(target).astype(int).T
    surface = rendered.surface
    here = surface.coordinates(label.face[rows, columns], label.barycentric[rows, columns])
    there = surface.coordinates(next_label.face[row, column], next_label.barycentric[row, column])
    apart = np.linalg.norm(here - there, axis=1)
    assert np.median(apart) < 0.02
    # Legs and ears of a dog are thinner than the tolerance for being visible: some points are seen from behind.
    assert np.quantile(apart, 0.99) < {"human": 0.08, "dog": 0.16}[surface.name]


def test_flow_to_the_same_view_is_zero(rendered):
    view = rendered.views[0]
    displacement, valid = flow(rendered, view, view)
    np.testing.assert_array_equal(valid, rendered.label(view).face >= 0)
    assert np.abs(displacement).max() < 0.1


def test_hidden_points_are_not_valid(rendered):
    """From the front to the back hardly any point is seen again."""
    instant = rendered.instants()[0]
    view, opposite = instant.views[0], instant.views[2]
    _, valid = flow(rendered, view, opposite)
    assert valid.sum() < 0.3 * (rendered.label(view).face >= 0).sum()


def test_a_view_without_a_label_is_refused(rendered):
    view, after = consecutive(rendered)
    with pytest.raises(InputError, match="has no label"):
        flow(rendered, view, dataclasses.replace(after, label=None))
