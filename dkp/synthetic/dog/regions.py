"""Where on a dog a point lies, in the terms that markings are painted by: along a leg, up the trunk, on the head."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dkp.surface import Surface
from dkp.synthetic.body import SkinnedBody
from dkp.synthetic.rasteriser import vertex_normals
from dkp.synthetic.regions import Regions, along_chain, neighbour_mean


class DogRegion(NamedTuple):
    """In which region of the dog points lie, and where in it; every field has one entry a point.

    Attributes:
        left, up, front: From the middle between shoulders and hips in the rest pose [m].
        leg: 0 at shoulder or hip, 1 at elbow or knee, 2 at wrist or hock, 3 in the paw.
        neck: 0 at its root, 1 at the head.
        tail: 0 at its root, 1 at its tip.
        ear: 0 at its base, 1 at its tip.
        under: How much the surface faces down, -1 to 1.
        on_leg, on_neck, on_tail, on_ear, on_head, in_mouth: 1 there, 0 elsewhere; ears and mouth are on the head, too.
    """

    left: NDArray
    up: NDArray
    front: NDArray
    leg: NDArray
    neck: NDArray
    tail: NDArray
    ear: NDArray
    under: NDArray
    on_leg: NDArray
    on_neck: NDArray
    on_tail: NDArray
    on_ear: NDArray
    on_head: NDArray
    in_mouth: NDArray


class DogRegions(Regions):
    """The regions of the dog's surface, whose columns are the fields of :class:`DogRegion`.

    Attributes:
        joints: Rest joints (3,) [m] by name.
    """

    def __init__(self, surface: Surface, body: SkinnedBody) -> None:
        """Measure the shipped surface and body."""
        vertices, self.faces, self.joints = surface.vertices, surface.faces, surface.joints
        joints = surface.joints
        on = {
            "leg": _share(body, ("scapula", "upper_arm", "forearm", "foot", "toes", "thigh", "shank")),
            "neck": _share(body, ("neck",)),
            "tail": _share(body, ("tail",)),
            "head": _share(body, ("head", "jaw")),
        }
        leg = np.zeros(len(vertices))
        for side in ("left", "right"):
            mine = (vertices[:, 0] > 0) == (side == "left")
            for names, before in (
                (("shoulder", "elbow", "wrist", "fore_paw"), True),
                (("hip", "knee", "hock", "hind_paw"), False),
            ):
                chosen = np.flatnonzero(mine & (on["leg"] > 0.05) & ((vertices[:, 2] > 0) == before))
                leg[chosen] = along_chain(vertices[chosen], [joints[f"{side}_{name}"] for name in names], 1.3, 1.3)
        base_of_head = body.rest()[1][body.bone_index["head"]].astype(np.float64)
        neck = along_chain(vertices, [joints["neck"], base_of_head], 1.3, 1.3)
        tail = along_chain(vertices, [joints["tail_base"], joints["tail_tip"]], 1.3, 1.3)
        folded = vertices * np.where(vertices[:, :1] < 0, [-1.0, 1.0, 1.0], 1.0)
        axis = joints["left_ear_tip"] - joints["left_ear"]
        ear = (folded - joints["left_ear"]) @ axis / (axis @ axis)
        on_ear = np.clip(8 * ear + 1, 0, 1) * np.clip((folded[:, 0] - 0.03) / 0.01, 0, 1) * on["head"]
        self.columns = np.column_stack(
            [
                vertices,
                leg,
                neck,
                tail,
                ear,
                -vertex_normals(vertices, self.faces)[:, 1],
                on["leg"],
                on["neck"],
                on["tail"],
                on_ear,
                on["head"],
                _mouth(vertices, joints) * (on["head"] > 0.5),
            ]
        ).astype(np.float32)
        self.spread = neighbour_mean(self.faces, len(vertices))

    def vertices(self) -> DogRegion:
        """Return what the regions say of every vertex."""
        return DogRegion(*np.ascontiguousarray(self.columns.T))


def _share(body: SkinnedBody, stems: tuple[str, ...]) -> NDArray:
    """Share (V,) of the skin weight in the bones whose names hold one of the stems."""
    chosen = [k for k, name in enumerate(body.bone_names) if any(stem in name for stem in stems)]
    return np.asarray(body.skin[:, chosen].sum(1)).ravel()


def _mouth(vertices: NDArray, joints: dict[str, NDArray]) -> NDArray:
    """Whether vertices (V,) lie inside the open mouth: a wedge between the jaws, measured from the nose [m]."""
    left, up, front = (vertices - joints["nose"]).T
    back = -front
    floor = -0.064 + np.clip(back - 0.10, 0, None) * 0.4 * 0.9
    inside = (np.abs(left) < 0.0245) & (back > 0.062) & (back < 0.185)
    return (inside & (up < -0.0125) & (up > floor)).astype(float)
