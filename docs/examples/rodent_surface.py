"""Make a surface for mice and rats of the rodent of the package dm-control (1.0.50, Apache-2.0).

pip download --no-deps dm-control==1.0.50
unzip dm_control-*.whl 'dm_control/locomotion/walkers/assets/rodent*'
python docs/examples/rodent_surface.py dm_control/locomotion/walkers/assets/rodent_walker_skin.skn 0.33 mouse.npz

The second word is the scale: 1 is a rat of 23 cm from snout to tail base, 0.33 a mouse of 8 cm.
"""

import sys
from pathlib import Path

import numpy as np

from dkp.surface import Surface
from dkp.surface.bake.dog import read_skin

SIDES = {
    "ear": (0.021, 0.114, 0.102),
    "fore_paw": (0.040, 0.004, 0.095),
    "elbow": (0.036, 0.045, 0.062),
    "hind_paw": (0.044, 0.005, -0.055),
    "knee": (0.044, 0.040, -0.009),
}
POINTS = {
    "snout": (0, 0.085, 0.158),
    "neck": (0, 0.104, 0.073),
    "back": (0, 0.106, 0.0),
    "tail_base": (0, 0.050, -0.076),
    "tail_middle": (0, 0.002, -0.155),
    "tail_tip": (0, 0.002, -0.238),
    **{f"left_{name}": point for name, point in SIDES.items()},
    **{f"right_{name}": (-x, y, z) for name, (x, y, z) in SIDES.items()},
}
"""Named points [m] before scaling, read off the mesh: x is the animal's left, y is up, z is forward."""

skin, scale = read_skin(Path(sys.argv[1])), float(sys.argv[2])
edges = np.sort(skin.faces[:, [[0, 1], [1, 2], [2, 0]]], -1).reshape(-1, 2)
_, which, count = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
pinched = edges[count[which.ravel()] > 2]  # in the mouth, where the skin touches itself: a surface must not
faces = skin.faces[(skin.faces != np.bincount(pinched.ravel()).argmax()).all(1)]
used, faces = np.unique(faces, return_inverse=True)
surface = Surface.from_mesh(scale * skin.vertices[used], faces.reshape(-1, 3), Path(sys.argv[3]).stem)
face, weights, distance = surface.locate(scale * np.array(list(POINTS.values())))
surface.joints = dict(zip(POINTS, surface.coordinates(face, weights), strict=True))  # on the skin
surface.save(sys.argv[3])
print(f"{surface}, {np.ptp(surface.vertices[:, 2]):.3f} m long; named points lay up to {distance.max():.4f} m off it")
