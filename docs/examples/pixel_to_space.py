"""Where in space is what a pixel shows? python docs/examples/pixel_to_space.py CAPTURE CAMERA X Y."""

import sys

import dkp
from dkp.captures import Capture

capture, name, x, y = Capture.open(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
views = capture.instants()[0].views  # one image of each camera
images = [capture.image(view) for view in views]
cameras = [capture.camera(view) for view in views]  # or dkp.Camera.create(intrinsics, rotation, translation, ...)
fields = dkp.load("human-small").predict(images)  # boxes=[[x0, y0, x1, y1], ...] says where the person is
surface = dkp.reconstruct(fields, cameras)

point = fields[[view.camera for view in views].index(name)].at([[x, y]])
(position,) = surface.at(point.vertex)
if point.vertex[0] < 0:
    print(f"({x:g}, {y:g}) of {name} shows no body")
else:
    print(f"({x:g}, {y:g}) of {name} shows vertex {point.vertex[0]}, at {position.round(3)} m in the world, where "
          f"{surface.views[point.vertex[0]]} views agree")  # fmt: skip
