"""Captures of rendered people and dogs: exact labels, splits, and the same bytes from any number of workers."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch

from dkp.errors import InputError
from dkp.synthetic import DOMAINS, synthesize
from dkp.synthetic.dog.domains import DOG_DOMAINS
from dkp.synthetic.domains import find_domain
from dkp.synthetic.rasteriser import interpolate
from dkp.synthetic.recording import Recording, make_splits
from dkp.synthetic.rig import make_rig
from dkp.synthetic.species import SPECIES


def project(camera, points):
    pixels, depth = camera.project(torch.from_numpy(np.asarray(points, np.float64)))
    return pixels.numpy(), depth.numpy()


def seen_points(capture, view):
    """Rows, columns and world points (N, 3) of the labelled pixels of a view."""
    label = capture.label(view)
    rows, columns = np.nonzero(label.face >= 0)
    points = interpolate(
        capture.truth(view.frame), capture.surface.faces, label.face[rows, columns], label.barycentric[rows, columns]
    )
    return rows, columns, points


def test_every_labelled_point_projects_to_its_pixel_centre(rendered):
    checked = 0
    for view in rendered.views:
        rows, columns, points = seen_points(rendered, view)
        pixels, depth = project(rendered.camera(view), points)
        off = np.abs(pixels - np.stack([columns + 0.5, rows + 0.5], 1))
        assert off.max() < 0.1
        assert np.median(off) < 0.01
        assert (depth > 1).all()
        checked += len(rows)
    assert checked > 200 * len(rendered.views)


def test_labels_of_two_views_of_an_instant_agree_where_both_see_the_point(rendered):
    """A labelled pixel's world point, seen by another view: that view's labels around it show the same world point."""
    # A point this far behind what a view shows is hidden, one limb from another this far apart [m].
    hidden, edge = {"human": (0.04, 0.12), "dog": (0.015, 0.05)}[rendered.surface.name]
    apart: list[float] = []
    off: list[float] = []
    in_front: list[bool] = []
    for instant in rendered.instants()[:4]:
        worlds = {}
        for view in instant.views:
            rows, columns, points = seen_points(rendered, view)
            worlds[view.camera] = np.full((64, 64, 3), np.nan)
            worlds[view.camera][rows, columns] = points
        for view in instant.views:
            points = worlds[view.camera][np.isfinite(worlds[view.camera][..., 0])]
            for other in instant.views:
                if other is view:
                    continue
                camera = rendered.camera(other)
                pixels, depth = project(camera, points)
                at = pixels - 0.5
                column, row = np.floor(at).astype(int).T
                inside = (column >= 0) & (row >= 0) & (column < 63) & (row < 63)
                column, row, share = column[inside], row[inside], (at - np.floor(at))[inside]
                corners = np.stack([worlds[other.camera][row + r, column + c] for r in (0, 1) for c in (0, 1)])
                x, y = share.T
                weights = np.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x])
                theirs = (corners * weights[..., None]).sum(0)
                whole = np.isfinite(theirs[:, 0]) & (np.ptp(corners, 0).max(1) < edge)  # no edge between the corners
                mine, theirs = points[inside][whole], theirs[whole]
                their_pixels, their_depth = project(camera, theirs)
                visible = depth[inside][whole] < their_depth + hidden
                apart += np.linalg.norm(theirs - mine, axis=1)[visible].tolist()
                off += np.abs(their_pixels - pixels[inside][whole])[visible].max(1).tolist()
                in_front += (depth[inside][whole] < their_depth - hidden).tolist()
    assert len(apart) > 2000
    assert np.quantile(apart, 0.95) < 0.015
    assert np.median(off) < 0.1
    assert np.mean(in_front) < 0.01


def test_masks_joints_and_crops(rendered):
    for view in rendered.views:
        label, mask = rendered.label(view), rendered.mask(view)
        np.testing.assert_array_equal(mask, label.face >= 0)
        rows, columns = np.nonzero(mask)
        assert rows.min() > 2
        assert rows.max() < 61
        assert columns.min() > 2
        assert columns.max() < 61
        assert np.ptp(rows) > 30 or np.ptp(columns) > 30
        x, y, _ = view.joints["mid_hip"]
        assert columns.min() <= x <= columns.max()
        assert rows.min() <= y <= rows.max()
        assert view.undistorted
        assert view.domain == "target"


def test_the_subject_stands_on_the_floor_within_the_rig(rendered):
    low, high, apart = {"human": (0.6, 2.4, 1.8), "dog": (0.35, 1.3, 1.1)}[rendered.surface.name]
    for instant in rendered.instants():
        truth = rendered.truth(instant.frame)
        assert abs(truth[:, 2].min()) < 0.03
        assert low < truth[:, 2].max() < high
        assert np.abs(truth[:, :2]).max() < 1.6
    centres = np.stack([camera.centre().numpy() for camera in rendered.cameras.values()])
    assert (np.linalg.norm(centres[:, :2], axis=1) > apart).all()


def test_clips_are_smooth_and_lie_apart(rendered):
    first = [i for i in rendered.instants() if i.sequence == "s00"]
    assert [i.time for i in first] == [0, 1, 2, 100, 101]
    assert [i.frame for i in first][3] == "s00_000100"
    truth = [rendered.truth(i.frame) for i in first]
    within = [np.linalg.norm(truth[k + 1] - truth[k], axis=1).mean() for k in (0, 1, 3)]
    across = np.linalg.norm(truth[3] - truth[2], axis=1).mean()
    assert max(within) < 0.15
    assert across > 2 * max(within)


def test_the_backdrop_stays_while_the_subject_moves(rendered):
    """The corner of the frame sees the same place in consecutive instants of a camera, but another camera does not."""
    views = [v for v in rendered.views if v.sequence == "s00" and v.camera == "cam_01"][:2]
    other = next(v for v in rendered.views if v.sequence == "s00" and v.camera == "cam_02")

    def border(view, onto):
        """Image of a view carried to the crop of another one."""
        import cv2

        a, b = (np.vstack([v.crop, [0, 0, 1]]) for v in (view, onto))
        matrix = b @ np.linalg.inv(a)
        matrix[:2, 2] += matrix[:2, :2] @ [0.5, 0.5] - 0.5
        blurred = cv2.GaussianBlur(rendered.image(view).astype(np.float32), (0, 0), 2)
        mask = (rendered.mask(view) == 0).astype(np.float32)
        return (
            cv2.warpAffine(blurred, matrix[:2], (64, 64)),
            cv2.warpAffine(cv2.erode(mask, np.ones((15, 15))), matrix[:2], (64, 64)) > 0.99,
        )

    def difference(view):
        (mine, here), (theirs, there) = border(view, views[0]), border(views[0], views[0])
        both = here & there
        assert both.sum() > 200
        return np.abs(mine - theirs)[both].mean()

    assert difference(views[1]) < 12
    assert difference(other) > 1.5 * difference(views[1])


def digest(path):
    result = {}
    for file in sorted(path.rglob("*")):
        if file.is_file():
            result[str(file.relative_to(path))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return result


def test_same_seed_same_bytes_whatever_the_number_of_workers(tmp_path):
    options = {"subjects": 2, "frames": 3, "clip": 2, "cameras": 2, "size": 32, "domain": "varied"}
    synthesize(tmp_path / "one", workers=1, seed=5, name="x", **options)
    synthesize(tmp_path / "two", workers=2, seed=5, name="x", **options)
    synthesize(tmp_path / "other", workers=1, seed=6, name="x", **options)
    one, two, other = (digest(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert len(one) == 2 + 2 * 3 * (2 * 3 + 1)
    images = [name for name in one if name.startswith("images/")]
    assert all(one[name] != other[name] for name in images)


def test_subjects_differ_in_looks_and_shape(rendered):
    first, second = (rendered.truth(f"s0{k}_000000") for k in range(2))
    edges = rendered.surface.faces[:, :2]
    lengths = [np.linalg.norm(t[edges[:, 0]] - t[edges[:, 1]], axis=1) for t in (first, second)]
    assert np.abs(lengths[0] / lengths[1] - 1).mean() > 0.02


def recording(subjects, frames, clip):
    domain = find_domain("source")
    rig = tuple(make_rig(domain, 2, "ring", np.random.default_rng(0)))
    return Recording(domain, subjects, frames, clip, 32, 0, 30.0, rig)


def test_splits_take_whole_subjects_then_clips_then_blocks():
    by_subject = make_splits(recording(9, 4, 2), None)
    assert {f[:3] for f in by_subject["test"]} == {"s07", "s08"}
    assert len(by_subject["train"]) == 28
    by_clip = make_splits(recording(1, 12, 3), None)
    assert by_clip["test"] == ["s00_000300", "s00_000301", "s00_000302"]
    by_block = make_splits(recording(1, 8, 8), None)
    assert by_block["test"] == ["s00_000006", "s00_000007"]
    three = make_splits(recording(4, 1, 1), {"train": 0.9, "val": 0.05, "test": 0.05})
    assert [len(v) for v in three.values()] == [2, 1, 1]
    with pytest.raises(InputError, match="share of split 'test' is 0"):
        make_splits(recording(4, 1, 1), {"train": 1, "test": 0})
    with pytest.raises(InputError, match=r"frames is 1 and subjects 1, expected .* splits train, test: more --frames"):
        make_splits(recording(1, 1, 1), None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domain": "moon"}, "the domain is 'moon', expected one of source"),
        ({"domain": "sport", "species": "dog"}, "the domain is 'sport', expected one of source"),
        ({"domain": DOMAINS["source"], "species": "dog"}, "has Wardrobe for its wardrobe, expected Coats"),
        ({"domain": DOG_DOMAINS["source"]}, "has Coats for its wardrobe, expected Wardrobe"),
        ({"species": "cat"}, "the species is 'cat', expected one of human, dog"),
        ({"layout": "line"}, "the layout of the rig is 'line'"),
        ({"subjects": 0}, "subjects is 0"),
        ({"size": 8}, "size is 8"),
        ({"workers": 0}, "workers is 0"),
        ({"fps": 0}, "fps is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_options_name_what_was_expected_and_leave_nothing(tmp_path, change, message):
    options = {"subjects": 1, "frames": 2, "cameras": 1, "size": 32, "workers": 1} | change
    with pytest.raises(InputError, match=message):
        synthesize(tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_domains_differ_in_light_and_noise_and_one_factor_can_be_moved(tmp_path):
    options = {"subjects": 1, "frames": 2, "cameras": 2, "size": 48, "seed": 1, "workers": 1}
    source = synthesize(tmp_path / "source", domain="source", **options)
    target = synthesize(tmp_path / "target", domain="target", **options)
    noisy_domain = dataclasses.replace(DOMAINS["source"], name="noisy", noise=(0.08, 0.08))
    noisy = synthesize(tmp_path / "noisy", domain=noisy_domain, **options)

    def brightness(capture):
        return np.mean([capture.image(v).mean() for v in capture.views])

    def grain(capture):
        return np.mean([np.abs(np.diff(capture.image(v).astype(float), axis=1)).mean() for v in capture.views])

    assert brightness(source) > brightness(target) + 20
    assert grain(noisy) > 2 * grain(source)
    assert abs(brightness(noisy) - brightness(source)) < 4
    for one, other in zip(source.views, noisy.views, strict=True):
        np.testing.assert_array_equal(source.label(one).face, noisy.label(other).face)


def test_a_longer_exposure_smears_what_moves_and_leaves_the_labels(tmp_path):
    options = {"subjects": 1, "frames": 3, "clip": 2, "cameras": 2, "size": 48, "seed": 4, "workers": 1, "fps": 2.0}
    short, long = (
        synthesize(
            tmp_path / name, domain=dataclasses.replace(DOMAINS["source"], exposure_time=(time, time)), **options
        )
        for name, time in (("short", 1e-4), ("long", 0.5))
    )

    def sharpness(capture):
        values = []
        for view in capture.views:
            seen = capture.label(view).face >= 0
            values.append(np.abs(np.diff(capture.image(view).astype(float), axis=1))[seen[:, 1:]].mean())
        return np.mean(values)

    assert sharpness(long) < 0.95 * sharpness(short)
    for view in long.views:
        rows, columns, points = seen_points(long, view)
        pixels, _ = project(long.camera(view), points)
        assert np.abs(pixels - np.stack([columns + 0.5, rows + 0.5], 1)).max() < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exposure_time": (0.1, 0.0)}, "exposure_time is"),
        ({"backdrops": {"moon": 1.0}}, "backdrops names 'moon', expected gradient"),
        ({"backdrops": {"room": 0.0}}, "backdrops has the weights"),
        ({"motions": {"walk": -1.0, "stand": 2.0}}, "motions has the weights"),
        ({"noise": (0.3, 0.1)}, "noise is .*lower number first"),
        ({"clutter": (5, 2)}, "clutter is"),
    ],
)
def test_a_domain_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(DOMAINS["source"], **change)
    with pytest.raises(InputError, match="tops names 'toga'"):
        dataclasses.replace(DOMAINS["source"].wardrobe, tops={"toga": 1.0})


@pytest.mark.parametrize("species", SPECIES.values(), ids=lambda species: species.name)
def test_domains_name_activities_that_exist(species):
    for domain in species.domains.values():
        for activity in domain.motions:
            species.sample_motion(np.random.default_rng(0), 1, 15.0, activity, None)


def test_a_capture_of_dogs_says_so(tmp_path):
    options = {"subjects": 1, "frames": 2, "cameras": 2, "size": 32, "seed": 4, "workers": 1}
    dogs = synthesize(tmp_path / "dogs", species="dog", **options)
    assert dogs.surface.name == "dog"
    assert dogs.name == "dog source 4"
    people = synthesize(tmp_path / "people", **options)
    assert people.surface.name == "human"
    assert people.name == "source 4"
    header = json.loads((tmp_path / "dogs" / "capture.json").read_text())
    assert header["licence"] == "Apache-2.0"
    assert set(dogs.views[0].joints) == set(dogs.surface.joints)
