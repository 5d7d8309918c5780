"""Where on the body a point lies, in the terms that clothes are cut by: along a limb, up the torso, on the head."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dkp.surface import Surface
from dkp.synthetic.regions import Regions, along_chain, neighbour_mean


class Region(NamedTuple):
    """In which region of the body points lie, and where in it; every field has one entry a point.

    Attributes:
        left: Towards the person's left, from the middle of the hips [m], in the rest pose.
        up: Above the hips [m].
        front: Before the hips [m].
        arm: 0 at the shoulder, 1 at the elbow, 2 at the wrist, more in the hand.
        leg: 0 at the hip, 1 at the knee, 2 at the ankle, more in the foot.
        height: 0 at the hips, 1 at the root of the neck.
        head_up: Above the eyes [m].
        head_front: Before the ears [m].
        on_head, on_arm, on_leg: 1 there, 0 elsewhere; the neck, hands and feet included.
    """

    left: NDArray
    up: NDArray
    front: NDArray
    arm: NDArray
    leg: NDArray
    height: NDArray
    head_up: NDArray
    head_front: NDArray
    on_head: NDArray
    on_arm: NDArray
    on_leg: NDArray


class BodyRegions(Regions):
    """The regions of a person, whose columns are the fields of :class:`Region`.

    Attributes:
        eyes: (2, 2) left and up of the eyes, ``mouth`` (2,) likewise of the mouth [m].
    """

    def __init__(self, template: Surface) -> None:
        """Measure a template whose joints and part names are those of the human surface."""
        joints = {name: np.asarray(point, np.float64) for name, point in template.joints.items()}
        vertices = np.asarray(template.vertices, np.float64)
        self.faces = np.asarray(template.faces, np.int64)
        hip = joints["mid_hip"]
        up = _unit(joints["neck"] - hip)
        left = joints["left_shoulder"] - joints["right_shoulder"]
        left = _unit(left - (left @ up) * up)
        axes = np.stack([left, up, np.cross(left, up)], 1)
        local = (vertices - hip) @ axes
        joints = {name: (point - hip) @ axes for name, point in joints.items()}

        on = self._membership(template, len(vertices))
        arm, leg = np.zeros(len(vertices)), np.zeros(len(vertices))
        for side, positive in (("left", True), ("right", False)):
            mine = (local[:, 0] > 0) == positive
            limbs = (("shoulder", "elbow", "wrist"), on["arm"], arm), (("hip", "knee", "ankle"), on["leg"], leg)
            for names, member, result in limbs:
                chosen = np.flatnonzero(mine & (member > 0))
                result[chosen] = along_chain(local[chosen], [joints[f"{side}_{name}"] for name in names], 1.0, 1.5)
        for extremity, limb in (("hand", arm), ("foot", leg)):
            limb[on[extremity] > 0.99] = np.maximum(limb, 2.15)[on[extremity] > 0.99]
        eyes = np.stack([joints["left_eye"], joints["right_eye"]])
        ears = (joints["left_ear"] + joints["right_ear"]) / 2
        self.eyes = eyes[:, :2]
        self.mouth = np.array([0.0, joints["nose"][1] - 0.034])
        self.columns = np.column_stack(
            [
                local,
                arm,
                leg,
                local[:, 1] / joints["neck"][1],
                local[:, 1] - eyes[:, 1].mean(),
                local[:, 2] - ears[2],
                on["head"],
                on["arm"],
                on["leg"],
            ]
        ).astype(np.float32)

        self.spread = neighbour_mean(self.faces, len(vertices))

    def _membership(self, template: Surface, count: int) -> dict[str, NDArray]:
        """Share of each vertex's faces that belong to a region."""
        faces, part = self.faces, np.asarray(template.face_part)
        total = np.maximum(np.bincount(faces.ravel(), minlength=count), 1)
        words = {
            "head": ("head",),
            "arm": ("arm", "hand"),
            "leg": ("leg", "foot"),
            "hand": ("hand",),
            "foot": ("foot",),
        }
        result = {}
        for region, needles in words.items():
            parts = [k + 1 for k, name in enumerate(template.part_names) if any(word in name for word in needles)]
            member = np.isin(part, parts).astype(float)
            result[region] = np.bincount(faces.ravel(), np.repeat(member, 3), minlength=count) / total
        return result

    def vertices(self) -> Region:
        """Return what the regions say of every vertex."""
        return Region(*np.ascontiguousarray(self.columns.T))


def _unit(vector: NDArray) -> NDArray:
    return vector / np.linalg.norm(vector)
