"""The look and shape of a recorded subject, and its renderings in new poses."""

from dataclasses import replace

import numpy as np
import pytest

from dkp.captures import Capture
from dkp.errors import InputError
from dkp.reconstruction import Reconstruction
from dkp.surface import Surface
from dkp.synthetic import synthesize
from dkp.synthetic.body import load_body
from dkp.synthetic.captured import CapturedRig
from dkp.synthetic.likeness import Likenesses, _filled, fitted_shape
from dkp.synthetic.noise import linear
from dkp.synthetic.regions import neighbour_mean
from dkp.synthetic.species import SPECIES

from .test_captured import require_exact_labels


def write_reconstruction(capture: Capture, folder, frames):
    """What `dkp reconstruct` would write of a rendered capture if it knew the true surfaces; keypoints left out."""
    count, vertices = len(frames), np.stack([capture.truth(frame) for frame in frames])
    surface = capture.surface
    unknown = {name: np.zeros((count, len(surface.vertices))) for name in ("confidence", "residual", "views", "seen")}
    folder.mkdir()
    Reconstruction(
        frame=np.array(frames),
        sequence=np.array([capture.frames[frame].sequence for frame in frames]),
        time=np.array([capture.frames[frame].time for frame in frames]),
        points=np.full_like(vertices, np.nan),
        vertices=vertices,
        agreement=np.ones(count),
        colour=np.zeros(vertices.shape, np.uint8),
        keypoints=np.zeros((count, 0, 3)),
        keypoint_names=np.zeros(0, "U1"),
        rest=surface.vertices,
        faces=surface.faces,
        up=np.array([0.0, 0, 1]),
        **unknown,
    ).save(folder)
    return str(folder)


def test_the_colours_are_those_that_the_images_show(rendered, tmp_path):
    frames = [frame for frame in rendered.frames if frame.startswith("s00")]
    folder = write_reconstruction(rendered, tmp_path / "found", frames)
    captured = CapturedRig(str(rendered.path), 64)
    albedo = Likenesses(folder, captured, load_body(rendered.surface.name))(0).subject.regions.columns
    shown, times = np.zeros(albedo.shape), np.zeros(len(albedo))
    faces = rendered.surface.faces
    for view in rendered.views:
        if view.frame in frames:  # by the labels: the corner with the greatest weight is what a pixel shows
            label, light = rendered.label(view), linear(rendered.image(view) / 255.0)
            seen = label.face >= 0
            vertex = faces[label.face[seen], label.barycentric[seen].argmax(1)]
            np.add.at(shown, vertex, light[seen] / captured.empty("s00", view.camera, None).level)
            np.add.at(times, vertex, 1)
    often = times > 3
    assert often.sum() > 200
    mean = shown[often] / times[often, None]
    for channel in range(3):
        assert np.corrcoef(mean[:, channel], albedo[often, channel])[0, 1] > 0.8
    assert np.abs(mean - albedo[often]).mean() < 0.25 * mean.mean()


def test_a_recorded_subject_is_rendered_with_exact_labels(rendered, tmp_path):
    folder = write_reconstruction(rendered, tmp_path / "found", list(rendered.frames))
    options = {"subjects": 2, "frames": 1, "clip": 1, "size": 64, "workers": 1}
    result = synthesize(tmp_path / "out", rig=str(rendered.path), subject=folder, **options)
    require_exact_labels(result)
    first, second = (result.truth(frame) for frame in result.frames)
    assert np.abs(first - second).max() > 0.1
    likenesses = Likenesses(folder, CapturedRig(str(rendered.path), 64), load_body(rendered.surface.name))
    one, other, again = (likenesses(number).subject.regions.columns for number in range(3))  # two takes, in turn
    assert np.abs(one - other).mean() > 0.02
    assert again is one
    second = [frame for frame in rendered.frames if frame.startswith("s01")]
    folder = write_reconstruction(rendered, tmp_path / "second", second)
    alone = Likenesses(folder, CapturedRig(str(rendered.path), 64), load_body(rendered.surface.name))
    assert alone(0) is alone(1)  # the first take has no surface
    assert np.abs(alone(1).subject.regions.columns - other).max() < 1e-6  # the second stands in its own take


def test_a_capture_that_knows_its_surfaces_serves_as_its_reconstruction(rendered, tmp_path):
    folder = write_reconstruction(rendered, tmp_path / "found", list(rendered.frames))
    captured, body = CapturedRig(str(rendered.path), 64), load_body(rendered.surface.name)
    one, other = (Likenesses(path, captured, body)(0) for path in (folder, str(rendered.path)))
    assert np.abs(one.subject.regions.columns - other.subject.regions.columns).max() < 1e-3
    assert np.abs(one.shape - other.shape).max() < 1e-3


@pytest.mark.parametrize("species", SPECIES.values(), ids=lambda species: species.name)
def test_the_shape_is_found_in_any_pose(species):
    body, rng = load_body(species.name), np.random.default_rng(3)
    shape = rng.standard_normal(body.shape_dim).clip(-1.5, 1.5)
    rotations, roots = species.sample_motion(rng, 5, 1.0, None, shape)
    posed = np.stack([body.pose(shape, *one)[0] for one in zip(rotations, roots, strict=True)])

    def off(found):
        return np.linalg.norm(body.rest(found)[0] - body.rest(shape)[0], axis=1).mean()

    assert off(fitted_shape(body, posed)) < 0.7 * off(np.zeros(body.shape_dim))


def test_what_was_not_seen_is_taken_from_the_other_side_or_from_around():
    surface = Surface.load("human")
    true = np.clip(0.5 + 0.3 * surface.vertices, 0, 1)
    true[:, 0] = 0.5  # the same on both sides
    weight = np.ones(len(true))
    weight[surface.vertices[:, 0] > 0.1] = 0
    top = surface.vertices[:, 1] > surface.vertices[:, 1].max() - 0.03
    weight[top] = 0
    spread = neighbour_mean(surface.faces, len(true))
    found = _filled(true * weight[:, None], weight, surface, spread)
    assert np.abs(found - true)[~top].max() < 1e-6
    assert np.abs(found - true)[top].max() < 0.05


def test_a_subject_of_something_else_is_refused(rendered, tmp_path):
    with pytest.raises(InputError, match="without a rig, expected --rig"):
        synthesize(tmp_path / "out", subject="somebody")
    folder = write_reconstruction(rendered, tmp_path / "found", rendered.splits["test"])
    with pytest.raises(InputError, match="has no surface of an instant of the rig"):
        synthesize(tmp_path / "out", rig=f"{rendered.path}#train", subject=folder, workers=1)
    smaller = replace(Reconstruction.open(folder), vertices=np.zeros((len(rendered.splits["test"]), 9, 3)))
    (tmp_path / "smaller").mkdir()
    smaller.save(tmp_path / "smaller")
    with pytest.raises(InputError, match="smaller is not on the surface"):
        synthesize(tmp_path / "out", rig=str(rendered.path), subject=str(tmp_path / "smaller"), workers=1)
    with pytest.raises(InputError, match=r"has neither capture\.json nor reconstruction\.npz"):
        synthesize(tmp_path / "out", rig=str(rendered.path), subject=str(tmp_path), workers=1)
