"""Saved fields as labels: IUV images and arrays of any resolution, of the view or of the camera's frame."""

import cv2
import numpy as np
import pytest

from dkp.captures import Capture, CaptureWriter
from dkp.captures.crops import CropMap, crop_affine
from dkp.errors import InputError
from dkp.importers.fields import import_fields
from dkp.pipeline.compare_labels import compare_labels

HALF = slice(None, None, 2)


def iuv_of(capture, view, step=HALF):
    """An IUV image of a view's own label."""
    label = capture.label(view)
    part, uv = capture.surface.charts(np.maximum(label.face, 0), label.barycentric)
    image = np.concatenate([part[..., None], np.round(uv * 255)], -1) * (label.face >= 0)[..., None]
    return image.astype(np.uint8)[step, step]


def write(folder, capture, save):
    for view in capture.views:
        path = folder / view.frame / f"{view.camera}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, view)
    return folder


@pytest.fixture(scope="module")
def capture(planes):
    return Capture.open(planes / "labelled")


@pytest.fixture
def fields(capture, tmp_path):
    return write(tmp_path / "iuv", capture, lambda path, view: cv2.imwrite(str(path), iuv_of(capture, view)))


def assert_near(path, capture, least=0.9, share=0.9):
    found = compare_labels(f"{path}#", f"{capture.path}#", size=32)
    assert found.geodesic_median_cm < 2.5  # cells are 1.3 cm, those of half the resolution 2.6
    assert found.iou > least
    assert found.labelled_share > share


@pytest.mark.parametrize("ending", ["", "_IUV", "_iuv"])
def test_iuv_images_of_half_the_resolution(capture, fields, tmp_path, ending):
    """Also called as DensePose and as `dkp predict` call them, beside pictures of the fields."""
    for path in [*fields.rglob("*.png")] if ending else ():
        path.rename(path.with_name(f"{path.stem}{ending}.png"))
        cv2.imwrite(str(path), np.full((44, 44, 3), 200, np.uint8))
    found = import_fields(capture.path, fields, tmp_path / "out")
    assert_near(tmp_path / "out", capture)
    assert found.splits == capture.splits
    view, own = found.views[0], capture.views[0]
    np.testing.assert_array_equal(found.image(view), capture.image(own))
    np.testing.assert_array_equal(found.mask(view), capture.mask(own))


@pytest.mark.parametrize("kind", ["coordinate", "vertex", "charts"])
def test_arrays(capture, tmp_path, kind):
    def save(path, view):
        label = capture.label(view)
        shown = label.face >= 0
        coordinate = capture.surface.coordinates(np.maximum(label.face, 0), label.barycentric)
        iuv = iuv_of(capture, view, slice(None))
        arrays = {
            "coordinate": {"foreground": 0.9 * shown, "coordinate": coordinate.astype(np.float32)},
            "vertex": {"vertex": np.where(shown, capture.surface.nearest_vertex(coordinate), -1)},
            "charts": {"part": iuv[..., 0], "uv": iuv[..., 1:] / 255},
        }[kind]
        path = path.parents[1] / view.camera / f"{view.frame}.npz"  # the other way round
        path.parent.mkdir(exist_ok=True)
        np.savez(path, **arrays)

    import_fields(capture.path, write(tmp_path / "npz", capture, save), tmp_path / "out")
    assert_near(tmp_path / "out", capture)


def test_charts_of_another_body_model(capture, tmp_path):
    """The chart turned by a quarter and numbered 7, and a table that says so."""
    surface = capture.surface

    def save(path, view):
        image = iuv_of(capture, view, slice(None))
        turned = np.stack([7 * (image[..., 0] > 0), image[..., 2], 255 - image[..., 1]], -1)
        cv2.imwrite(str(path), (turned * (image[..., :1] > 0)).astype(np.uint8))

    folder = write(tmp_path / "iuv", capture, save)
    u, v = (surface.vertices[:, :2] / surface.vertices[:, :2].max(0)).T
    np.savez(tmp_path / "charts.npz", part=np.full(len(u), 7), uv=np.stack([v, 1 - u], -1), vertex=np.arange(len(u)))
    import_fields(capture.path, folder, tmp_path / "out", charts=tmp_path / "charts.npz")
    assert_near(tmp_path / "out", capture)
    with pytest.raises(InputError, match=r"has parts up to 7, expected 0 to 1 in its first channel"):
        import_fields(capture.path, folder, tmp_path / "other")
    np.savez(tmp_path / "charts.npz", part=[1, 8], uv=np.zeros((2, 2)), vertex=[0, 1])
    with pytest.raises(InputError, match="has no part 7, which a field shows"):
        import_fields(capture.path, folder, tmp_path / "other", charts=tmp_path / "charts.npz")
    np.savez(tmp_path / "charts.npz", part=[1], uv=np.zeros((1, 2)), vertex=[10**6])
    with pytest.raises(InputError, match="with vertices from 0 to 80"):
        import_fields(capture.path, folder, tmp_path / "other", charts=tmp_path / "charts.npz")


def test_fields_of_the_cameras_frames(capture, tmp_path):
    """The capture is of crops, the fields of the frames that they were cut from."""
    affine = crop_affine(np.array([4.0, 6.0, 26.0, 28.0]), 44)
    with CaptureWriter(tmp_path / "cut", name="cut", surface=capture.surface, cameras=capture.cameras) as writer:
        for view in capture.views:
            cut = CropMap.create(capture.rig_camera(view), affine, 44)
            writer.add_view(
                view.frame, view.camera, cut.image(capture.image(view)), sequence=view.sequence, time=view.time,
                crop=affine, undistorted=True,
            )  # fmt: skip
    folder = write(tmp_path / "iuv", capture, lambda p, view: cv2.imwrite(str(p), iuv_of(capture, view, slice(None))))
    found = import_fields(tmp_path / "cut", folder, tmp_path / "out")
    for view, own in zip(found.views, capture.views, strict=True):
        label, whole = found.label(view), capture.label(own)
        np.testing.assert_array_equal(label.face[1::2, 1::2] >= 0, whole.face[6:28, 4:26] >= 0)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "cannot|nothing that can be decoded"),
        (b"\x89PNG\r\n\x1a\n12345", "nothing that can be decoded"),
        (np.zeros((32, 32), np.uint8), "expected an IUV image of three channels"),
        (np.zeros((32, 32, 3), np.uint16), "uint16 of shape"),
        (np.full((32, 32, 3), [200, 9, 1], np.uint8), "has parts up to 200, expected 0 to 1 .* in the last channel"),
        (np.zeros((32, 90, 3), np.uint8), "is 90x32, expected the proportions"),
    ],
)
def test_bad_images_are_one_sentence(capture, fields, tmp_path, content, match):
    path = fields / capture.views[1].frame / f"{capture.views[1].camera}.png"
    path.write_bytes(content if isinstance(content, bytes) else cv2.imencode(".png", content)[1].tobytes())
    with pytest.raises(InputError, match=match) as caught:
        import_fields(capture.path, fields, tmp_path / "out")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"other": np.zeros(3)}, "expected part and uv, vertex, or coordinate"),
        ({"part": np.zeros((8, 8)), "uv": np.zeros((8, 8))}, r"expected \(H, W\), 0 to 1 and"),
        ({"part": np.full((8, 8), 3), "uv": np.zeros((8, 8, 2))}, "values 3 to 3"),
        ({"coordinate": np.zeros((8, 8))}, r"coordinate has shape \(8, 8\)"),
        ({"coordinate": np.full((8, 8, 3), np.nan)}, "coordinate is not finite"),
        ({"vertex": np.full((8, 8), 10**6)}, "values up to 1000000"),
        ({"vertex": np.array([{}], object)}, "cannot be read"),
    ],
)
def test_bad_arrays_are_one_sentence(capture, tmp_path, arrays, match):
    view = capture.views[0]
    path = tmp_path / "npz" / view.frame / f"{view.camera}.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=match):
        import_fields(capture.path, tmp_path / "npz", tmp_path / "out")


def test_missing_fields_are_counted_and_none_is_refused(capture, fields, tmp_path, caplog):
    (fields / capture.views[0].frame / f"{capture.views[0].camera}.png").unlink()
    found = import_fields(capture.path, fields, tmp_path / "out")
    assert sum(view.label is None for view in found.views) == 1
    assert f"no field for 1 of {len(found.views)} views" in caplog.text
    with pytest.raises(InputError, match="has no field of any view"):
        import_fields(capture.path, tmp_path, tmp_path / "none")
