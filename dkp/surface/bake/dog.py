"""Bakes ``dkp/surface/assets/dog.npz``: the dog surface with skin weights, proportions and charts.

The body is the skinned dog of the package ``dm-control`` (version 1.0.50, Apache-2.0). Unpack its wheel anywhere
(``pip download --no-deps dm-control==1.0.50``; nothing of it has to be installed) and run

    python -m dkp.surface.bake.dog UNPACKED/dm_control/suite dkp/surface/assets/dog.npz

Steps: read the skin and the skeleton; weld the 1,636 pieces of the skin to one closed surface; thin the left half out
and mirror it; transfer skin weights; make linear directions of proportions by scaling bones; cut and flatten 24 parts.

Axes of the result: x the dog's left, y up, z forward; metres; the origin in the median plane between shoulders and
hips.
"""

import argparse
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dkp.surface.bake.dog_parts import MIRROR_PART, PART_NAMES, left_half_parts
from dkp.surface.bake.proportions import DIRECTIONS, Skeleton, directions
from dkp.surface.bake.remesh import thin_out
from dkp.surface.bake.symmetric import (
    FLIP,
    mirrored_points,
    mirrored_skin,
    other_side,
    strongest_bones,
    symmetric_charts,
    write_asset,
)

LEFT_VERTICES = 3300

ORIGIN = np.array([0.0, 0.444, -0.065])
"""The middle between shoulders and hips, in the axes of the result but from the floor below the torso [m]."""

_SEGMENTS = {
    "scapula": "scapula",
    "upper_arm": "upper_arm",
    "lower_arm": "forearm",
    "hand": "fore_foot",
    "finger": "fore_toes",
    "upper_leg": "thigh",
    "lower_leg": "shank",
    "foot": "hind_foot",
    "toe": "hind_toes",
}
"""Bones of a leg: dm-control's name and ours."""

_MIDDLE = {"torso": "torso", "pelvis": "pelvis", "skull": "head", "jaw": "jaw"}

_POINTS = {
    # Read off the skin and the model's eyes; before the origin is moved.
    "nose": ("head", (0.0, 0.6684, 0.4674)),
    "chin": ("jaw", (0.0, 0.597, 0.417)),
    "left_eye": ("head", (0.027, 0.7045, 0.364)),
    "left_ear": ("head", (0.058, 0.735, 0.295)),
    "left_ear_tip": ("head", (0.0865, 0.8065, 0.299)),
    "withers": ("torso", (0.0, 0.590, 0.120)),
    "tail_tip": ("tail_21", (0.0, 0.3395, -0.736)),
}
"""Named joints that are not the head of a bone: the bone that carries them and where they lie [m]."""

_HEADS = {
    "neck": "neck_1",
    "tail_base": "tail_1",
    "left_shoulder": "left_upper_arm",
    "left_elbow": "left_forearm",
    "left_wrist": "left_fore_foot",
    "left_fore_paw": "left_fore_toes",
    "left_hip": "left_thigh",
    "left_knee": "left_shank",
    "left_hock": "left_hind_foot",
    "left_hind_paw": "left_hind_toes",
}
"""Named joints that are the head of a bone."""


@dataclass
class Skin:
    """The skin of the dog, welded, in the axes of the result.

    ``vertices`` (V, 3) [m], ``faces`` (F, 3), ``weights`` (V, J) and the J ``bones`` with dm-control's names.
    """

    vertices: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    bones: list[str]


def read_skin(path: Path) -> Skin:
    """Read a skin in MuJoCo's binary format and weld vertices at the same position (within a micrometre).

    Format: https://mujoco.readthedocs.io/en/stable/XMLreference.html#asset-skin: the counts of vertices, texture
    coordinates, faces and bones; then these arrays; then for every bone its name (40 bytes), bind position and
    quaternion, and the ids and weights of its vertices; all little-endian with 4 bytes a number.
    """
    data = path.read_bytes()
    at = 16

    def take(count: int, kind: str) -> np.ndarray:
        nonlocal at
        at += 4 * count
        return np.frombuffer(data, kind, count, at - 4 * count)

    count, texture, face_count, bone_count = struct.unpack("<4i", data[:16])
    vertices = take(3 * count, "<f4").reshape(-1, 3).astype(np.float64)
    take(2 * texture, "<f4")
    faces = take(3 * face_count, "<i4").reshape(-1, 3).astype(np.int64)
    weights = np.zeros((count, bone_count))
    bones = []
    for bone in range(bone_count):
        bones.append(data[at : at + 40].split(b"\0")[0].decode())
        at += 40
        take(7, "<f4")
        (number,) = take(1, "<i4")
        ids = take(number, "<i4")
        weights[ids, bone] = take(number, "<f4")
    if at != len(data):
        raise RuntimeError(f"{path}: {len(data) - at} bytes left over")
    _, first, inverse = np.unique(np.round(vertices, 6), axis=0, return_index=True, return_inverse=True)
    faces = inverse.ravel()[faces]
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(1)]
    weights = weights[first] / weights[first].sum(1, keepdims=True)
    return Skin(_to_axes(vertices[first]), faces, weights, bones)


def read_skeleton(path: Path) -> dict[str, tuple[str, np.ndarray]]:
    """Parent and joint centre (3,) [m] of every body of a MuJoCo model whose bodies are not turned in its rest pose."""
    found: dict[str, tuple[str, np.ndarray]] = {}

    def visit(body: ElementTree.Element, parent: str, origin: np.ndarray) -> None:
        if "quat" in body.attrib or "euler" in body.attrib:
            raise RuntimeError(f"body {body.get('name')} is turned")
        position = origin + _numbers(body.get("pos", "0 0 0"))
        joint = next((j.attrib["pos"] for j in body.findall("joint") if "pos" in j.attrib), "0 0 0")
        name = body.get("name", "")
        found[name] = (parent, _to_axes(position + _numbers(joint)))
        for child in body.findall("body"):
            visit(child, name, position)

    world = ElementTree.parse(path).getroot().find("worldbody")
    if world is None:
        raise RuntimeError(f"{path}: no worldbody")
    visit(next(b for b in world.findall("body") if b.get("name") == "torso"), "", np.zeros(3))
    return found


def bone_name(name: str) -> str:
    """Our name of one of dm-control's bones; necks and tails are counted from the trunk."""
    stem, _, end = name.rpartition("_")
    if name in _MIDDLE:
        return _MIDDLE[name]
    if stem == "L":
        return f"lumbar_{end}"
    if stem == "C":
        return f"neck_{8 - int(end)}"
    if stem == "Ca":
        return f"tail_{end}"
    return f"{'left' if end == 'L' else 'right'}_{_SEGMENTS[stem]}"


def bake(folder: Path, out: Path) -> None:
    """Make the asset from the folder ``dm_control/suite``."""
    skin = read_skin(folder / "dog_assets" / "dog_skin.skn")
    bodies = read_skeleton(folder / "dog.xml")
    order = [skin.bones.index(name) for name in bodies if name in skin.bones]  # parents first
    names = [bone_name(skin.bones[k]) for k in order]
    parents = np.array([_parent(skin.bones[k], skin.bones, bodies, order) for k in order])
    heads = np.stack([bodies[skin.bones[k]][1] for k in order]) - _floor_to_origin(bodies)
    heads[0] = 0.0  # the torso turns about the origin
    vertices = skin.vertices - ORIGIN
    modelled = skin.weights[:, order]
    weights = _slim_tail(vertices, modelled, names, heads)
    half = thin_out(vertices, skin.faces, _wanted_edges(vertices, weights, names), LEFT_VERTICES)

    # Everything is read off the left half and mirrored, so that shape and skin are exactly symmetric.
    bone_mirror = np.array([names.index(other_side(name)) for name in names])
    heads = 0.5 * (heads + heads[bone_mirror] * FLIP)
    points = mirrored_points(half, vertices)
    spread = mirrored_skin(half, weights, bone_mirror)
    best, best_weight = strongest_bones(spread)
    paired = (bone_mirror[best][:, :, None] == best[:, None, :]).any(2)  # on the mirror plane left needs right
    best_weight[half.seam.nonzero()[0]] *= paired[half.seam.nonzero()[0]]
    best_weight /= best_weight.sum(1, keepdims=True)
    dense = np.zeros_like(spread)
    np.put_along_axis(dense, best, best_weight, axis=1)

    joints, joint_bone = _named_joints(names, heads)
    stacked = np.stack(list(joints.values()))
    basis = directions(Skeleton(names, parents, heads, stacked, joint_bone, joints), points, dense)
    count = len(points)
    basis[:, :count] = 0.5 * (basis[:, :count] + basis[:, half.mirror] * FLIP)  # left and right differ by rounding
    left = left_half_parts(points, half.faces[: half.left_faces], half.transfer(modelled), names, joints)
    charts = symmetric_charts(points, half, left, MIRROR_PART, PART_NAMES)
    print(f"{len(points)} vertices, {len(half.faces)} faces, {len(names)} bones")
    meta = {
        "name": "dog",
        "bone_names": names,
        "joint_names": list(joints),
        "part_names": list(PART_NAMES),
        "directions": list(DIRECTIONS),
        "source": "dm-control 1.0.50, Apache-2.0; baked by dkp/surface/bake/dog.py",
    }
    write_asset(
        out,
        meta,
        half,
        charts,
        vertices=points,
        joints=stacked,
        joint_bone=joint_bone,
        parents=parents,
        heads=heads,
        skin=(best, best_weight),
        basis=basis,
    )


def _floor_to_origin(bodies: dict[str, tuple[str, np.ndarray]]) -> np.ndarray:
    """Return the origin; the model's torso has to be where the skin's is."""
    torso = bodies["torso"][1]
    if np.abs(torso - [0.0, 0.41522, 0.040403]).max() > 1e-3:
        raise RuntimeError(f"the torso is at {torso}, expected the height of a standing dog")
    return ORIGIN


def _parent(bone: str, bones: list[str], bodies: dict[str, tuple[str, np.ndarray]], order: list[int]) -> int:
    """Index in the order of the nearest ancestor that carries skin, -1 for the torso."""
    parent = bodies[bone][0]
    while parent and parent not in bones:
        parent = bodies[parent][0]
    return order.index(bones.index(parent)) if parent else -1


def _slim_tail(vertices: np.ndarray, weights: np.ndarray, names: list[str], heads: np.ndarray) -> np.ndarray:
    """Give the rump's share in the tail's bones back to the pelvis, or lifting the tail would pull a web of skin up.

    The tail keeps what lies within 1.8 cm of its bones, and a share that falls to nothing at 4 cm.
    """
    tail = [k for k, name in enumerate(names) if name.startswith("tail")]
    start, step = heads[tail[:-1]], np.diff(heads[tail], axis=0)
    offset = vertices[:, None] - start
    along = np.clip((offset * step).sum(-1) / (step**2).sum(-1), 0.0, 1.0)
    distance = np.linalg.norm(offset - along[..., None] * step, axis=-1).min(1)
    kept = np.clip((0.040 - distance) / 0.022, 0.0, 1.0)
    result = weights.copy()
    result[:, tail] *= kept[:, None]
    result[:, names.index("pelvis")] += weights[:, tail].sum(1) - result[:, tail].sum(1)
    return result


def _wanted_edges(vertices: np.ndarray, weights: np.ndarray, names: list[str]) -> np.ndarray:
    """Wanted edge length (V,) [m]: finer on head, paws and tail."""
    wanted = np.full(len(vertices), 0.020)
    for length, stems in (
        (0.013, ("forearm", "fore_foot", "shank", "hind_foot")),
        (0.009, ("fore_toes", "hind_toes", "tail")),
        (0.009, ("head",)),
        (0.011, ("jaw",)),
    ):
        chosen = [k for k, name in enumerate(names) if any(stem in name for stem in stems)]
        wanted = np.where(weights[:, chosen].sum(1) > 0.5, length, wanted)
    return wanted


def _named_joints(names: list[str], heads: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Named joints (3,) [m] and the bones (N,) that carry them."""
    joints: dict[str, np.ndarray] = {}
    carriers: dict[str, str] = {}
    for name, (bone, position) in _POINTS.items():
        joints[name], carriers[name] = np.array(position) - ORIGIN, bone
    for name, bone in _HEADS.items():
        joints[name], carriers[name] = heads[names.index(bone)].copy(), bone
    for name in [n for n in joints if n.startswith("left_")]:
        joints[other_side(name)] = joints[name] * [-1.0, 1.0, 1.0]
        carriers[other_side(name)] = other_side(carriers[name])
    joints["mid_hip"] = 0.5 * (joints["left_hip"] + joints["right_hip"])
    carriers["mid_hip"] = "pelvis"
    return joints, np.array([names.index(carriers[name]) for name in joints])


def main() -> None:
    """Command line of the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, help="the folder dm_control/suite of the unpacked package")
    parser.add_argument("out", type=Path, help="the .npz to write")
    arguments = parser.parse_args()
    bake(arguments.suite, arguments.out)


def _to_axes(points: np.ndarray) -> np.ndarray:
    """From MuJoCo's axes (x forward, y left, z up) to x left, y up, z forward."""
    return points[..., [1, 2, 0]]


def _numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


if __name__ == "__main__":
    main()
