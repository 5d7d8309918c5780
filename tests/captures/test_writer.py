"""Writing is all or nothing, and equal content gives equal bytes."""

import errno
import json
import os
import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from dkp.captures import Capture, CaptureWriter, DenseLabel, write_truth, write_view_files
from dkp.errors import InputError
from dkp.files import hold


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def blank(writer, *frames, cameras=("cam_0", "cam_1")):
    for time, frame in enumerate(frames):
        for camera in cameras:
            writer.add_view(frame, camera, np.zeros((80, 96, 3), np.uint8), time=time)


def test_equal_content_gives_equal_bytes_in_any_order(scene, tmp_path):
    scene.write(tmp_path / "one")
    with CaptureWriter(tmp_path / "two", name="board", surface=scene.surface, cameras=scene.cameras()) as writer:
        write = pickle.loads(pickle.dumps(write_view_files))  # as a worker process gets it
        rows = []
        for name, camera in reversed(scene.cameras().items()):
            for time in reversed(range(4)):
                label = scene.label(camera, time)
                image = np.where(label.foreground[..., None], (label.barycentric * 200).astype(np.uint8) + 40, 15)
                rows.append(
                    write(
                        writer.folder,
                        f"f_{time:03d}",
                        name,
                        image.astype(np.uint8),
                        time=time,
                        mask=label.foreground,
                        label=label,
                        domain="toy",
                    )
                )
        for time in range(4):
            write_truth(writer.folder, f"f_{time:03d}", scene.vertices(time))
        for row in pickle.loads(pickle.dumps(rows)):
            writer.add_row(row)
        writer.splits = {"train": ["f_000", "f_001", "f_002"], "test": ["f_003"]}
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_nothing_appears_before_the_end(scene, tmp_path):
    out = tmp_path / "c"
    with CaptureWriter(out, name="n", surface="human", cameras=scene.cameras()) as writer:
        blank(writer, "a")
        assert not out.exists()
    assert out.is_dir()
    assert os.listdir(tmp_path) == ["c"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, InputError])
def test_a_failure_leaves_what_was_there(scene, tmp_path, failure):
    out = tmp_path / "c"
    scene.write(out)
    before = contents(out)

    def write():
        with CaptureWriter(out, name="n", surface="human", cameras=scene.cameras(), overwrite=True) as writer:
            blank(writer, "a")
            raise failure("stop")

    with pytest.raises(failure):
        write()
    assert contents(out) == before
    assert os.listdir(tmp_path) == ["c"]


def test_what_cannot_be_written_is_said_of_the_capture(scene, tmp_path):
    (tmp_path / "file").touch()
    for path, error in ((tmp_path / "file" / "c", None), (tmp_path / "c", OSError(errno.ENOSPC, "No space left"))):
        with (
            pytest.raises(InputError, match=f"{re.escape(str(path))} cannot be written"),
            CaptureWriter(path, name="c", surface=scene.surface, cameras=scene.cameras()),
        ):
            raise error
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_capture_that_would_not_open_is_not_kept(scene, tmp_path):
    out = tmp_path / "c"
    scene.write(out)
    before = contents(out)
    with (
        pytest.raises(InputError, match="expected frames with two or more views") as caught,
        CaptureWriter(out, name="n", surface="human", cameras=scene.cameras(), overwrite=True) as writer,
    ):
        blank(writer, "a", "b", cameras=("cam_0",))
    assert str(out / "views.jsonl") in str(caught.value)
    assert contents(out) == before
    assert os.listdir(tmp_path) == ["c"]


def test_a_failing_move_puts_the_old_capture_back(scene, tmp_path, monkeypatch):
    out = tmp_path / "c"
    scene.write(out)
    before = contents(out)
    rename = Path.rename

    def failing(self, target):
        if ".partial-" in self.name and not self.name.endswith("-old") and Path(target) == out:
            raise OSError("disk full")
        return rename(self, target)

    def write():
        with CaptureWriter(out, name="n", surface="human", cameras=scene.cameras(), overwrite=True) as writer:
            blank(writer, "a")
            monkeypatch.setattr(Path, "rename", failing)

    with pytest.raises(OSError, match="disk full"):
        write()
    assert contents(out) == before
    assert os.listdir(tmp_path) == ["c"]


def test_an_existing_folder_is_refused_unless_told(scene, tmp_path):
    out = tmp_path / "c"
    out.mkdir()
    with CaptureWriter(out, name="n", surface="human", cameras=scene.cameras()) as writer:  # empty is fine
        blank(writer, "a")
    with pytest.raises(InputError, match="exists and is not empty"):
        CaptureWriter(out, name="n", surface="human", cameras=scene.cameras())
    with CaptureWriter(out, name="new", surface="human", cameras=scene.cameras(), overwrite=True) as writer:
        blank(writer, "b")
    assert Capture.open(out).name == "new"
    assert list(Capture.open(out).frames) == ["b"]
    assert os.listdir(tmp_path) == ["c"]


def test_only_captures_are_overwritten(scene, tmp_path):
    folder, file = tmp_path / "home", tmp_path / "file"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    file.write_text("x")
    for out, match in ((folder, "expected a capture: nothing else is overwritten"), (file, "is a file")):
        with pytest.raises(InputError, match=match):
            CaptureWriter(out, name="n", surface="human", cameras=scene.cameras(), overwrite=True)
    assert (folder / "thesis.tex").read_text() == "years of work"


def test_a_link_to_a_capture_stays_a_link(scene, tmp_path):
    scene.write(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    cameras = scene.cameras()
    with CaptureWriter(tmp_path / "link", name="new", surface="human", cameras=cameras, overwrite=True) as writer:
        blank(writer, "a")
    assert (tmp_path / "link").is_symlink()
    assert Capture.open(tmp_path / "real").name == "new"


def test_an_image_file_is_copied_as_it_is(scene, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (80, 96, 3), dtype=np.uint8)
    source = tmp_path / "photo.JPG"
    cv2.imwrite(str(source), image)
    with CaptureWriter(tmp_path / "c", name="n", surface="human", cameras=scene.cameras()) as writer:
        for camera in ("cam_0", "cam_1"):
            writer.add_view("a", camera, source, time=0)
    view = Capture.open(tmp_path / "c").views[0]
    assert view.image == "images/cam_0/a.jpg"
    assert view.size == (96, 80)
    assert (tmp_path / "c" / view.image).read_bytes() == source.read_bytes()


IMAGE = np.zeros((8, 8, 3), np.uint8)
FACE = np.zeros((8, 8), np.int32)
THIRDS = np.full((8, 8, 3), 1 / 3)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"image": IMAGE.astype(np.float32)}, "expected .H, W, 3. uint8"),
        ({"image": IMAGE[..., 0]}, "expected .H, W, 3. uint8"),
        ({"mask": np.ones((4, 8), bool)}, "mask has shape .4, 8., expected .8, 8."),
        ({"label": DenseLabel(FACE[:4], THIRDS[:4])}, "label has shape .4, 8."),
        ({"label": DenseLabel(FACE, THIRDS * 2)}, "sum to one"),
        ({"label": DenseLabel(FACE - 2, THIRDS)}, "has the face -2"),
        ({"frame": "../a"}, "frame is '../a', expected a name"),
        ({"camera": "cam_9"}, "unknown camera, expected one of cam_0"),
        ({"crop": [[1, 0, 0], [0, 0, 0]]}, "expected an affine map that can be inverted"),
        ({"time": -1}, "time is -1, expected a whole number of at least 0"),
        ({"joints": {"nose": (1.0, float("nan"), 1.0)}}, "joints: nose is"),
    ],
)
def test_bad_views_are_refused(scene, tmp_path, arguments, match):
    values = {"frame": "a", "camera": "cam_0", "image": IMAGE, "time": 0, **arguments}
    writer = CaptureWriter(tmp_path / "c", name="n", surface="human", cameras=scene.cameras())
    with pytest.raises(InputError, match=match), writer:
        writer.add_view(values.pop("frame"), values.pop("camera"), values.pop("image"), **values)
    assert not any(tmp_path.iterdir())


def test_a_view_is_added_once(scene, tmp_path):
    writer = CaptureWriter(tmp_path / "c", name="n", surface="human", cameras=scene.cameras())
    with pytest.raises(InputError, match="view a of camera cam_0 is added twice"), writer:
        blank(writer, "a", cameras=("cam_0", "cam_0"))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"unit": "inch"}, "unit is 'inch', expected one of m, cm, mm"),
        ({"name": ""}, "name of the capture is ''"),
        ({"surface": "nowhere.npz"}, "nowhere.npz: found no such file, expected a surface"),
        ({"splits": {"train": ["z"]}}, "train lists the frame 'z'"),
        ({"cameras": {}}, "unknown camera"),
    ],
)
def test_bad_captures_are_refused(scene, tmp_path, arguments, match):
    values = {"name": "n", "surface": "human", "cameras": scene.cameras(), **arguments}
    with pytest.raises(InputError, match=match), CaptureWriter(tmp_path / "c", **values) as writer:
        blank(writer, "a")
    assert not any(tmp_path.iterdir())


def test_rows_are_plain_json(scene, tmp_path):
    row = write_view_files(
        tmp_path, "a", "cam_0", IMAGE, time=np.int64(3), joints={"nose": np.array([1.0, 2.0, 1 / 3])},
        crop=np.eye(3)[:2], override=scene.cameras()["cam_1"], unit="cm",
    )  # fmt: skip
    assert json.loads(json.dumps(row)) == row
    assert row["joints"] == {"nose": [1.0, 2.0, 0.3333]}
    np.testing.assert_allclose(row["override"]["translation"], scene.cameras()["cam_1"].translation * 100)


def test_what_a_killed_writer_has_left_is_removed_and_what_another_one_writes_is_not(tmp_path, scene):
    left, used = (tmp_path / f".capture.partial-{name}" for name in ("left", "used"))
    for folder in (left, used):
        folder.mkdir()
        (folder / "image.png").write_bytes(b"half")
    held = hold(used)
    with CaptureWriter(tmp_path / "capture", name="capture", surface=scene.surface, cameras=scene.cameras()) as writer:
        blank(writer, "f_000")
        assert not left.exists()
        assert used.is_dir()
    os.close(held)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [used.name, "capture"]
