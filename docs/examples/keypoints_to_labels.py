"""Make a labelled capture of keypoints whose names the surface knows, for a teacher.

python docs/examples/keypoints_to_labels.py captures/mouse#test captures/mouse-labelled
"""

import sys

import numpy as np

from dkp.captures import Capture, CaptureWriter, SparseLabel

path, _, split = sys.argv[1].partition("#")
capture = Capture.open(path)
surface = capture.surface
names = list(surface.joints)
if not names:
    sys.exit(f"{path}: its surface, {surface.name}, has no named points, expected one with the names of the keypoints")
face, weights, _ = surface.locate(np.array([surface.joints[name] for name in names]))
labelled = 0
with CaptureWriter(sys.argv[2], name="labelled", surface=surface, cameras=capture.cameras) as writer:
    for instant in capture.instants(split or None):
        for view in instant.views:
            seen = [index for index, name in enumerate(names) if name in (view.joints or {})]
            pixels = np.array([view.joints[names[index]][:2] for index in seen]).reshape(-1, 2)
            inside = ((pixels >= 0) & (pixels < view.size)).all(1)
            points = SparseLabel(pixels[inside], face[seen][inside], weights[seen][inside])
            writer.add_view(
                view.frame, view.camera, capture.image(view), sequence=view.sequence, time=view.time,
                crop=view.crop, undistorted=view.undistorted, mask=capture.mask(view), points=points,
            )  # fmt: skip
            labelled += len(points.pixels)
print(f"{sys.argv[2]}: {labelled} labelled points of {', '.join(names)}")
