"""Images of every kind, boxes, and looking for a subject, with a detector that reads colours."""

import numpy as np
import pytest
import torch
from PIL import Image

from dkp.inference.search import overlap


def coordinate_at(prediction, x, y):
    return prediction.at([[x, y]]).coordinate[0, :2]


def test_every_kind_of_image_is_the_same(predictor, card):
    image = card(60, 30, 40, 60)
    kinds = [
        image,
        torch.from_numpy(image).movedim(-1, 0),
        Image.fromarray(image),
        Image.fromarray(image).convert("RGBA"),
    ]
    predictions = predictor.predict(kinds, boxes=[[60, 30, 100, 90]] * 4)
    for one in predictions:
        np.testing.assert_array_equal(one.coordinate, predictions[0].coordinate)
    np.testing.assert_allclose(coordinate_at(predictions[0], 80, 45), [0.2, 0.1], atol=0.01)


def test_results_have_the_shape_of_what_is_asked(predictor, card):
    image, other = card(60, 30, 40, 60), card(10, 10, 50, 50, size=(90, 70))
    assert predictor.predict(image, boxes=[60, 30, 100, 90]).image_size == (160, 120)
    two = predictor.predict(image, boxes=[[60, 30, 100, 90], [0, 0, 50, 50]])
    assert [bool(one.inside.any()) for one in two] == [True, False]
    mixed = predictor.predict([image, other], boxes=[None, np.array([[10, 10, 60, 60]])])
    assert isinstance(mixed[1], list)
    assert mixed[0].image_size == (160, 120)
    np.testing.assert_allclose(coordinate_at(mixed[1][0], 35, 35), [0.2, 0.2], atol=0.01)
    assert [one.image_size for one in predictor.predict([image, other])] == [(160, 120), (90, 70)]


def test_a_subject_is_found_anywhere(predictor, card):
    for x, y, width, height in ((60, 30, 40, 60), (5, 70, 30, 40), (120, 2, 36, 30), (2, 2, 156, 116)):
        prediction = predictor.predict(card(x, y, width, height))
        expected = np.array([x, y, x + width, y + height])
        assert overlap(prediction.subject_box(), expected) > 0.8
        np.testing.assert_allclose(coordinate_at(prediction, x + width / 2, y + height / 4), [0.2, 0.1], atol=0.02)


def test_where_there_is_none_the_whole_image_has_no_foreground(predictor):
    prediction = predictor.predict(np.zeros((50, 80, 3), np.uint8))
    assert not prediction.inside.any()
    assert prediction.box.tolist() == [0, -15, 80, 65]
    assert predictor.find(np.zeros((50, 80, 3), np.uint8)) is None


def test_batches_change_nothing(predictor, card):
    images = [card(20 + 5 * step, 30, 40, 60) for step in range(7)]
    predictor.batch = 3
    some = predictor.predict(images)
    predictor.batch = 100
    for one, other in zip(some, predictor.predict(images), strict=True):
        np.testing.assert_array_equal(one.coordinate, other.coordinate)


@pytest.mark.parametrize(
    ("image", "boxes", "message"),
    [
        (np.zeros((4, 4, 3)), None, "float64 where"),
        (np.zeros((4, 4, 2), np.uint8), None, r"shape \(4, 4, 2\)"),
        ("image.png", None, "an image is str"),
        (np.zeros((4, 4, 3), np.uint8), [0, 0, 0, 4], "x0 < x1"),
        (np.zeros((4, 4, 3), np.uint8), [0, 0, np.nan, 4], "x0 < x1"),
        (np.zeros((4, 4, 3), np.uint8), [0, 0, 4], r"boxes have shape \(3,\)"),
        ([np.zeros((4, 4, 3), np.uint8)], [None, None], "boxes for 2 images where 1"),
    ],
)
def test_what_is_no_image_or_box_is_refused(predictor, image, boxes, message):
    with pytest.raises(ValueError, match=message):
        predictor.predict(image, boxes)
