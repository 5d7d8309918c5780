"""OpenMonkeyStudio: images that were cut out of frames, and 3D keypoints."""

import shutil

import numpy as np
import pytest
import scipy.io
import torch

from dkp.captures.check import check_capture
from dkp.errors import InputError
from dkp.importers.datasets.openmonkey import JOINTS, import_openmonkey

from .conftest import Subject, assert_joints_meet, draw, look, seen

NAMES = tuple(None if name == "tail_tip" else name for name in JOINTS)  # the person that plays the monkey has none
SUBJECT = Subject(NAMES)
CAMERAS = {"18064162": look(-40, distortion=(-0.1, 0.02, 0, 0, 0)), "18064164": look(0), "7": look(50)}


def line(*values):
    return " ".join(repr(float(value)) for value in values)


def write(folder):
    for batch, frames in (("Batch7", (120, 130)), ("Batch8", (10, 20, 30))):
        path = folder / batch
        path.mkdir(parents=True)
        poses, lenses = ["NumCams 3", "NumFrames 2", "NumP 1"], []
        for name, camera in CAMERAS.items():
            matrix = camera.intrinsics.clone()
            matrix[:2, 2] -= 0.5
            poses += [f"0 {name}", line(*camera.centre()), *(line(*row) for row in camera.rotation)]
            lenses += [f"0 {name}", *(line(*row) for row in matrix), line(*camera.distortion[:2])]
        (path / "camera.txt").write_text("\n".join(poses))
        (path / "intrinsic.txt").write_text("\n".join(lenses))
        coords, crops = [], []
        for frame in frames:
            points = SUBJECT.points(frame)
            coords += [(frame, *point) for point in points]
            for name, camera in CAMERAS.items():
                x, y, width, height = 20, 4, 60, 90
                crops.append((frame, int(name), x, y, width, height))
                pixels = (seen(camera, points) - (x, y)) * 1.5  # images are enlarged
                image = path / "images" / f"{batch.lower()}_{frame:09d}_{name}.jpg"
                draw(image, pixels, (90, 135))
        scipy.io.savemat(path / "coords_3D.mat", {"coords": np.array(coords)})
        scipy.io.savemat(path / "crop_para.mat", {"crop": np.array(crops, float)})
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("monkey") / "data")


def options(**changes):
    return {"surface": "human", "size": 64, "workers": 1, **changes}


def test_cuts_lenses_and_batches(source, tmp_path):
    capture = import_openmonkey(source, tmp_path / "out", **options())
    assert_joints_meet(capture, lambda view: dict(zip(NAMES, SUBJECT.points(view.time), strict=True)))
    assert capture.splits == {
        "train": ["Batch7_000120", "Batch7_000130"], "test": [f"Batch8_0000{n}" for n in (10, 20, 30)],
    }  # fmt: skip
    assert torch.allclose(capture.cameras["18064162"].distortion[:2], torch.tensor([-0.1, 0.02]).double())
    report = check_capture(capture)
    assert not report.problems
    assert not report.findings
    capture = import_openmonkey(source, tmp_path / "one", **options(test=["Batch7"], step=2))
    assert {name: len(frames) for name, frames in capture.splits.items()} == {"train": 2, "test": 1}


def save(name, **arrays):
    return lambda folder: scipy.io.savemat(folder / "Batch7" / name, arrays)


def text(name, content):
    return lambda folder: (folder / "Batch7" / name).write_text(content)


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (save("coords_3D.mat", coords=np.zeros((14, 4))), "coords has 14 rows, expected 13 a frame"),
        (save("coords_3D.mat", other=1), "no array 'coords'"),
        (save("crop_para.mat", crop=np.zeros((3, 5))), r"crop has shape \(3, 5\), expected rows of 6"),
        (
            save("crop_para.mat", crop=np.zeros((3, 6))),
            r"crop of frame 0 and camera 0 is .*, expected .* 1 to 1000000 px",
        ),
        (save("crop_para.mat", crop=np.full((3, 6), 1e-320)), "expected x, y and a width and height from 1 to"),
        (save("crop_para.mat", crop=np.full((3, 6), np.nan)), "crop has the row 0 .nan, .*, expected finite numbers"),
        (text("camera.txt", "NumCams 1\n0 7\n0 0 0\n1 0 0 0 1 0 0 0"), "block 0 is"),
        (text("camera.txt", "0 7\n0 0 0\n2 0 0 0 1 0 0 0 1"), "camera 7 has determinant 2"),
        (text("intrinsic.txt", "0 7\n1 0 0 0 1 0 0 0 1 0 x"), "could not convert string to float: 'x'"),
        (text("intrinsic.txt", "0 7\n9 0 0 0 9 0 0 0 1 0 0"), "has no camera 18064162"),
        (text("intrinsic.txt", "5 7\n9 0 0 0 9 0 0 0 1 0 0"), "begins with 5 7, expected 0 and the id"),
        (lambda folder: (folder / "Batch7/coords_3D.mat").write_bytes(b"x"), "expected a file of MATLAB"),
        (lambda folder: shutil.rmtree(folder / "Batch7/images"), "has no image with keypoints and a cut"),
    ],
)
def test_bad_input_is_one_sentence(source, tmp_path, edit, match):
    shutil.copytree(source, tmp_path / "copy")
    edit(tmp_path / "copy")
    with pytest.raises(InputError, match=match):
        import_openmonkey(tmp_path / "copy", tmp_path / "out", **options())
    with pytest.raises(InputError, match=r"no folder with camera\.txt"):
        import_openmonkey(tmp_path, tmp_path / "out", **options())
    with pytest.raises(InputError, match="test names the batch 'Batch9', expected some of Batch7, Batch8"):
        import_openmonkey(source, tmp_path / "out", **options(test=["Batch9"]))
