"""Looking for a subject: where most searches end, not where the detector is surest."""

import os
from pathlib import Path

import numpy as np
import pytest

import dkp
from dkp.inference import Prediction
from dkp.inference.boxes import detected_boxes
from dkp.inference.frames import Frames
from dkp.inference.search import find_subject, overlap, part_boxes, settled, whole_box
from dkp.surface import Surface

IMAGE = np.zeros((1000, 1000, 3), np.uint8)
SUBJECT = np.array([300, 200, 600, 800])
THING = np.array([880, 900, 940, 960])


def seeing(*shown):
    """A detector of rectangles (box, doubt, largest box that shows it): the surer, the more of it is cut off."""
    surface = Surface.plane(0.4, 0.4, 0.05)

    def crops(boxes):
        found = []
        for box in boxes:
            centres = (np.arange(32) + 0.5) / 32
            x, y = np.meshgrid(box[0] + centres * (box[2] - box[0]), box[1] + centres * (box[3] - box[1]))
            foreground, error = np.zeros((32, 32)), np.ones((32, 32))
            for one, doubt, largest in shown:
                inside = (x > one[0]) & (x < one[2]) & (y > one[1]) & (y < one[3])
                if box[2] - box[0] <= largest:
                    cut = one[3] > box[3]
                    foreground[inside], error[inside] = 0.9, 0.4 * (doubt / 2 if cut else doubt)
            found.append(Prediction(box, foreground, np.zeros((32, 32, 3)), (1000, 1000), surface, error))
        return found

    return crops


def test_the_box_grows_until_nothing_is_cut_off():
    found = find_subject(seeing((SUBJECT, 0.06, 1100)), IMAGE, 0.15)
    assert (found.box[:2] < SUBJECT[:2]).all()
    assert (found.box[2:] > SUBJECT[2:]).all()
    assert found.box[2] - found.box[0] == pytest.approx(600 * 1.3, rel=0.1)


def test_a_thing_that_few_parts_show_is_no_subject():
    crops = seeing((SUBJECT, 0.06, 900), (THING, 0.001, 600))
    assert overlap(find_subject(crops, IMAGE, 0.15).subject_box(), SUBJECT) > 0.8
    assert find_subject(seeing((THING, 0.001, 300)), IMAGE, 0.15) is None
    assert find_subject(seeing((SUBJECT, 0.1, 1100)), IMAGE, 0.15) is None


@pytest.mark.parametrize(("width", "height", "most"), [(1920, 1080, 25), (5000, 10, 120), (1, 900, 120), (1, 1, 10)])
def test_parts_cover_the_image_and_are_few(width, height, most):
    boxes = np.array(part_boxes(np.zeros((height, width, 3), np.uint8)))
    assert len(boxes) <= most
    assert (boxes[:, :2].min(0) <= 0).all()
    assert (boxes[:, 2:].max(0) >= [width, height]).all()
    np.testing.assert_allclose(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])


def test_searches_that_come_to_one_box_go_on_as_one():
    asked = []
    crops = seeing((SUBJECT, 0.06, 1100))

    def counted(boxes):
        asked.append(len(boxes))
        return crops(boxes)

    starts = [whole_box(IMAGE), np.array([200.0, 100, 900, 800]), np.array([0.0, 0, 990, 990])]
    (end,) = settled(counted, crops(starts), 0.15)
    assert end.starts == 3
    assert asked[-1] == 1


@pytest.mark.skipif("DKP_DATA" not in os.environ, reason="DKP_DATA is not set")
@pytest.mark.parametrize(("camera", "number"), [("cam01", 0), ("cam01", 75)])
def test_the_first_frame_of_a_real_video_shows_the_whole_person(camera, number):
    person = Path(os.environ["DKP_DATA"]) / "person"
    body = detected_boxes(person / "pose" / f"{camera}_json")[number][0]
    ((_, image),) = Frames(person / f"{camera}.mp4").read([number])
    found = dkp.load("human-small", device="cpu").find(image)
    assert (found[:2] < body[:2]).all()
    assert (found[2:] > body[2:]).all()
    assert found[2] - found[0] < 1.7 * (body[3] - body[1])
