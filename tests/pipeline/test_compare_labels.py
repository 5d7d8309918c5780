"""Labels that are wrong by a known distance on the surface."""

import json

import numpy as np
import pytest
import torch

from dkp.captures import Capture, CaptureWriter, SparseLabel
from dkp.cli import main
from dkp.pipeline.compare_labels import compare_labels
from dkp.synthetic import synthesize

MOVED = 0.03  # [m]


@pytest.fixture(scope="module")
def moved(planes, tmp_path_factory):
    """The plane's first four instants without one camera, with points that are labelled 3 cm beside what they show."""
    source = Capture.open(planes / "mine")
    surface, folder = source.surface, tmp_path_factory.mktemp("moved") / "capture"
    frames = [f"f{index}" for index in range(4)]
    own = source.path / "surface.npz"
    with CaptureWriter(folder, name="moved", surface=own, cameras=source.cameras, splits={"train": frames}) as writer:
        for view in source.views:
            if view.frame not in frames or view.camera == "c":
                continue
            label = source.label(view)
            row, column = np.nonzero(label.foreground)
            corners = surface.vertices[surface.faces[label.face[row, column]]]
            points = (corners * label.barycentric[row, column][..., None]).sum(1) + np.array([MOVED, 0, 0])
            keep = points[:, 0] < 0.4
            face, barycentric, _ = surface.locate(points[keep])
            pixels = np.stack([column, row], 1)[keep] + 0.5
            points = SparseLabel(pixels, face.astype(np.int32), barycentric.astype(np.float32))
            writer.add_view(
                view.frame, view.camera, source.path / view.image, time=view.time, points=points, mask=label.foreground
            )
    return folder


def test_labels_agree_with_themselves(planes):
    found = compare_labels(str(planes / "mine"), str(planes / "mine"), size=32, stride=2)
    assert found.geodesic_mean_cm == pytest.approx(0, abs=1e-3)
    assert (found.labelled_share, found.iou, found.pck5) == (1, 1, 1)
    assert (found.instants, found.views) == ((6, 6), (18, 18))


def test_the_distance_between_labels_is_found(moved, planes):
    found = compare_labels(str(moved), str(planes / "mine"), size=32, stride=1)
    assert (found.instants, found.views) == ((4, 6), (8, 18))
    assert found.geodesic_median_cm == pytest.approx(100 * MOVED, rel=0.02)
    assert (found.pck5, found.pck10) == (1, 1)
    assert 0.8 < found.labelled_share < 1, "points that left the plane have no label"
    assert found.iou == 1
    other = compare_labels(str(planes / "mine"), str(moved), size=32, stride=1)
    assert other.geodesic_median_cm == pytest.approx(found.geodesic_median_cm, rel=1e-3)
    assert (other.cells, other.labelled_share) == (found.cells, 1)


def test_labels_are_compared_with_the_joints_of_a_capture(tmp_path):
    """Rendered people: what the labels say at the true joints, with their labels and without them, and mirrored."""
    source = synthesize(str(tmp_path / "two"), subjects=1, frames=2, cameras=3, clip=2, size=64, seed=3, workers=1)
    surface, words = source.surface, {"size": 64, "stride": 2}
    with CaptureWriter(
        tmp_path / "joints", name="joints", surface="human", cameras=source.cameras, splits=source.splits
    ) as writer:
        for view in source.views:
            truth = torch.from_numpy(source.truth(view.frame))
            nearest = {name: surface.nearest_vertex(joint[None])[0] for name, joint in surface.joints.items()}
            pixels = source.camera(view).project(truth[list(nearest.values())])[0].tolist()
            joints = {name: (x, y, 1.0) for name, (x, y) in zip(nearest, pixels, strict=True)}
            image = source.path / view.image
            writer.add_view(view.frame, view.camera, image, time=view.time, joints=joints, crop=view.crop)
    found = compare_labels(f"{source.path}#", f"{tmp_path / 'joints'}#", **words)
    assert (found.cells, found.geodesic_median_cm) == (0, None)
    assert 0 < found.joint_cm < 15
    assert found.joints > 50
    assert found.joints_labelled > 0.6  # the skin next to a joint is often on the outline
    assert found.left_right_exchanged < 0.3
    assert "joint error" in str(found)
    assert "geodesic" not in str(found)
    # The detections are on the skin, the surface's own joints inside.
    assert 0 < found.own_joint_cm < 15
    assert abs(found.own_joint_cm - found.joint_cm) > 0.01
    assert "what an exact field would have" in str(found)


def test_the_command_prints_or_writes_json(moved, planes, capsys):
    words = ["compare-labels", str(moved), str(planes / "mine"), "--size", "32", "--stride", "1"]
    main(words)
    assert "compared 8 of 18 views, 4 of 6 instants" in capsys.readouterr().out
    main([*words, "--json", "true"])
    assert json.loads(capsys.readouterr().out)["views"] == [8, 18]


@pytest.mark.parametrize(
    ("labels", "message"),
    [("wide#", "expected one surface for both"), ("mine#test", "have no view in common"), ("none", "none")],
)
def test_captures_that_cannot_be_compared(moved, planes, capsys, labels, message):
    with pytest.raises(SystemExit) as stopped:
        main(["compare-labels", str(planes / labels), str(moved), "--size", "32", "--stride", "1"])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
