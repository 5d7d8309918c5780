"""Images, folders and videos as numbered frames, decoded ahead."""

import numpy as np
import pytest

from dkp.captures.images import write_image
from dkp.errors import InputError
from dkp.inference.frames import Frames


def test_images_of_any_sizes_and_names(tmp_path):
    for name, size in (("beach", (4, 6)), ("dog 2", (8, 5))):
        write_image(tmp_path / f"{name}.png", np.full((*size, 3), 7, np.uint8))
    frames = Frames(tmp_path)
    assert list(frames.names.values()) == ["beach", "dog 2"]
    assert [image.shape for _, image in frames.read(list(frames.names))] == [(4, 6, 3), (8, 5, 3)]
    assert not frames.is_video
    assert Frames(tmp_path / "beach.png").names == {0: "beach"}
    assert list(Frames(tmp_path, "1:").names.values()) == ["dog 2"]


def test_what_cannot_be_decoded_ends_or_is_left_out(tmp_path):
    write_image(tmp_path / "a1.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "a2.png").write_bytes(b"no image")
    frames = Frames(tmp_path)
    with pytest.raises(InputError, match=r"a2\.png cannot be decoded.*; --on-bad skip"):
        list(frames.read([1, 2]))
    frames = Frames(tmp_path, on_bad="skip")
    assert [number for number, _ in frames.read([1, 2])] == [1]
    assert len(frames.bad) == 1


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("nowhere", "", "is not there"),
        ("", "", "has no images"),
        ("a.txt", "", "cannot be opened"),
        ("a.png", "5:", "none of"),
    ],
)
def test_what_are_no_frames_is_said(tmp_path, name, chosen, message):
    (tmp_path / "a.txt").write_text("text")
    if name == "a.png":
        write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match=message):
        Frames(tmp_path / name, chosen)


def test_two_images_of_one_name_are_refused(tmp_path):
    for name in ("a.png", "a.bmp"):
        write_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match="two images of one name"):
        Frames(tmp_path)
