"""Renders a person, predicts, compares with the truth and draws: python docs/examples/predict_picture.py OUT.jpg."""

import sys
import tempfile

import cv2
import numpy as np

import dkp
from dkp.inference.overlay import draw_overlay
from dkp.synthetic import synthesize
from dkp.viz.colours import CoordinateColours

SIZE = int(sys.argv[2]) if len(sys.argv) > 2 else 384

with tempfile.TemporaryDirectory() as folder:
    capture = synthesize(
        f"{folder}/people", subjects=1, frames=1, cameras=4, size=SIZE, domain="target", seed=7, splits={"all": 1.0}
    )
    views = [(capture.image(view), capture.label(view)) for view in capture.views]

detector = dkp.load("human-small")
predictions = detector.predict([image for image, _ in views])
colours = CoordinateColours(detector.surface)
rows = []
for (image, label), prediction in zip(views, predictions, strict=True):
    row, column = np.nonzero(label.face >= 0)
    found = prediction.at(np.stack([column, row], 1) + 0.5)
    truth = capture.surface.coordinates(label.face[row, column], label.barycentric[row, column])
    inside = found.vertex >= 0
    error = np.linalg.norm(found.coordinate[inside] - truth[inside], axis=1)
    print(f"{inside.mean():.0%} of the body found, off by {100 * np.median(error):.1f} cm in the median")
    rows.append(np.vstack([image, draw_overlay(image, [prediction], colours)]))
cv2.imwrite(sys.argv[1], np.hstack(rows)[..., ::-1])
