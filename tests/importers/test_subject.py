"""Where a subject is in the frames of one camera."""

import cv2
import numpy as np

from dkp.geometry import Camera
from dkp.importers.media.video import FrameSource
from dkp.importers.subject import Lens, doubt_background, track_background, unpacked


class Decoded(FrameSource):
    """Counts how often frames are decoded."""

    def frames(self, numbers):
        self.passes = getattr(self, "passes", 0) + 1
        return super().frames(numbers)


LENS = Lens(Camera.create(np.array([[100.0, 0, 80], [0, 100, 60], [0, 0, 1]]), image_size=[160, 120]))


def write_disc(folder, columns):
    """Frames of a disc before a still background."""
    still = cv2.resize(np.random.default_rng(0).integers(60, 120, (12, 16, 3), dtype=np.uint8), (160, 120))
    for number, column in enumerate(columns):
        frame = still.copy()
        cv2.circle(frame, (column, 60), 12, (20, 60, 250), -1)
        cv2.imwrite(str(folder / f"{number:03d}.png"), frame)
    return Decoded(folder)


def test_a_subject_that_hardly_moves_is_said(tmp_path):
    """Only its edge differs, by as much as it has moved."""
    for name, step, said in (("still", 2, True), ("moving", 20, False)):
        (tmp_path / name).mkdir()
        source = write_disc(tmp_path / name, [80 + step * (number % 7 - 3) for number in range(24)])
        tracks = {name: track_background(source, LENS, range(24), 0.1, 1)}
        assert ("the subject hardly moves" in doubt_background(tracks)) == said
    assert doubt_background({}) == ""


def test_the_background_is_that_of_the_frames_between_those_that_are_imported(tmp_path):
    """In every fifth frame, the disc sits in one place: among these alone it would be background."""
    source = write_disc(tmp_path, [60 if number % 5 == 0 else 20 + 5 * number for number in range(25)])
    track = track_background(source, LENS, range(0, 25, 5), 0.1, 1)
    assert list(track.boxes) == [0, 5, 10, 15, 20]
    for box in track.boxes.values():
        np.testing.assert_allclose((box[:2] + box[2:]) / 2, [60.5, 60.5], atol=1.5)
    assert unpacked(track.masks[5])[60, 60]
    assert source.passes == 1
