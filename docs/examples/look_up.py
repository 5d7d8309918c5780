"""What of the body does a pixel show? python docs/examples/look_up.py IMAGE X Y."""

import sys

from PIL import Image

import dkp

image, x, y = Image.open(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
prediction = dkp.load("human-small").predict(image)  # finds the person; boxes=[x0, y0, x1, y1] says where
point = prediction.at([[x, y]])
if point.vertex[0] < 0:
    print(f"({x:g}, {y:g}) shows no body; the body is in {prediction.subject_box()}")
else:
    name = prediction.surface.part_names[point.part[0] - 1]
    print(f"({x:g}, {y:g}) shows vertex {point.vertex[0]} ({name}), u v {point.uv[0].round(2)}, probability "
          f"{point.foreground[0]:.2f}")  # fmt: skip
