"""The surface of every instant of a capture in space, from what a detector says of all its views."""

import json
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dkp.callbacks.fields import Fields, FieldsCallback, sample_cells, silhouettes
from dkp.captures import Capture
from dkp.captures.arrays import parse_slice
from dkp.captures.splits import SPLIT_MARK, split_of
from dkp.data import LabelledDataModule
from dkp.errors import InputError
from dkp.files import whole_folder, write_text
from dkp.geometry import Camera, upright
from dkp.metrics import KeypointError3D, SurfaceError3D
from dkp.pipeline.instants import Instant, KeptInstants
from dkp.pipeline.pseudo_labels import joint_words
from dkp.reconstruction import (
    Reconstruction,
    ReconstructionSettings,
    Reconstructor,
    RegistrationSettings,
    SurfaceRegistration,
    confidence,
    keypoint_mixture,
    keypoints,
    vertex_samples,
)
from dkp.reconstruction.files import write_glb, write_keypoints_csv, write_ply, write_trc
from dkp.runs.lightning import run
from dkp.workers import Workers

LABEL_SIZE, LABEL_STRIDE = 128, 2
"""Crops and cells [px] in which labels stand in for a field."""


ASSUMED_FPS = 30.0
"""Instants per second, where nothing says it."""


def reconstruct(
    capture: str,
    out: str,
    ckpt_path: str | None = None,
    smoothing: float = 0.0,
    fps: float | None = None,
    sigma: float | None = None,
    shrinkage: float = 1.0,
    threshold: float = 0.06,
    min_views: int = 2,
    registration: RegistrationSettings | None = None,
    keypoints: list[str] | None = None,
    captured_masks: bool = True,
    hide_background: bool = False,
    workers: int | None = None,
    executor: str = "local",
) -> str:
    """Find the surface of every instant of a capture in space: visible regions, whole surface, keypoints.

    In two ways: the visible regions, where each vertex of the surface is triangulated robustly from the views whose
    fields agree on it; and the whole surface, registered to all views of the instant. OUT gets ``reconstruction.npz``
    (all of it, see `dkp.reconstruction.Reconstruction`), ``surface/FRAME.ply`` and ``visible/FRAME.ply``, for every
    take an animated ``takes/TAKE.glb`` and a ``takes/TAKE.trc``, ``keypoints.csv``, and ``metrics.json`` where the
    capture knows the truth. Instants are kept in OUT.partial until all are there: started again, it goes on.

    Args:
        capture: PATH of a capture for all its instants, PATH#SPLIT, or PATH#SPLIT:START:STOP:STEP for some of them:
            PATH#:0:20 for the first 20 of all.
        out: Folder to write, a new one.
        ckpt_path: The detector: name of a shipped one, folder of a run, or a checkpoint in one. Without it the
            capture's labels are the fields: how good a reconstruction by these cameras can be.
        smoothing: Instants over which the registered surface is smoothed (constant velocity unless the pixels differ);
            0 = none.
        fps: Instants per second, for the files that play; default those that the capture says, else 30.
        sigma: Width of the match between a cell's coordinate and a vertex [m]; default 3 % of the surface's largest
            side.
        shrinkage: Of the observations: 1 for detectors, towards 0 for fields that are exact to less than a cell.
        threshold: Greatest reprojection distance of a view that agrees, as a share of the image's longer side.
        min_views: Least number of views that have to agree on a triangulated vertex.
        registration: How the surface is registered.
        keypoints: Named points of the surface, such as left_wrist, that pull the registered surface to where the
            capture's detections of them meet; default none.
        captured_masks: Whether the registered surface fills the captured masks; else the predicted foreground.
        hide_background: Whether the detector sees black where the captured masks are off; views without a mask it sees
            as they are.
        workers: Processes that reconstruct; default one for each core; where there is a GPU this one alone, on the GPU.
        executor: "local", or "dask:ADDRESS" for the workers of a cluster, see docs/scaling.md.
    """
    if smoothing < 0 or (fps is not None and not fps > 0):
        raise InputError(f"smoothing is {smoothing:g} and fps {fps} where 0 or more and more than 0 are expected")
    path, split = split_of(capture, "")
    source = Capture.open(path)
    instants = source.instants(split or None)
    if max(len(one.views) for one in instants) < 2:
        raise InputError(f"{capture} has one view of each instant, expected two or more to reconstruct from")
    joints = joint_words(source, keypoints)
    settings = ReconstructionSettings(sigma=sigma, shrinkage=shrinkage, threshold=threshold, min_views=min_views)
    folder = Path(path).absolute()
    make = partial(InstantReconstructor, folder, settings, registration, captured_masks, keypoints or [])
    options = {"sigma": sigma, "shrinkage": shrinkage, "threshold": threshold, "min_views": min_views}
    made_of: dict[str, Any] = {"capture": str(folder), "fields": ckpt_path or "labels", "triangulation": options}
    made_of |= {"captured_masks": captured_masks, "registration": asdict(registration or RegistrationSettings())}
    made_of["keypoints"] = keypoints or []
    begun = {**made_of, "split": split, "hide_background": hide_background}
    with whole_folder(out) as partial_folder, KeptInstants(out, begun, [one.frame for one in instants]) as kept:
        with Workers(make, workers or (1 if torch.cuda.is_available() else None), executor) as pool:
            found = FoundInstants(pool, kept)
            views = f"{path}{SPLIT_MARK}{rest_of(source, split or '', len(kept.instants))}"
            if len(kept.instants) == len(instants):
                pass
            elif ckpt_path is None:
                from_labels(views, found, keypoints)
            else:
                words = [f"--ckpt_path={ckpt_path}", f"--data.predict={views}", "--trainer.logger=false", *joints]
                words += ["--trainer.devices=1", "--trainer.strategy=auto"]
                run("predict", [*words, *(["--data.hide_background=constant"] if hide_background else [])], [found])
        if not any(np.isfinite(one["vertices"]).any() for one in kept.instants):
            raise InputError(
                f"{ckpt_path or 'the labels'}: no instant of {capture} has a surface, expected fields on which two "
                "views or more agree"
            )
        rate = fps or source.fps or ASSUMED_FPS
        meta: dict[str, Any] = {"format": "dkp-reconstruction", "version": 1, "unit": "m", **made_of}
        meta |= {"surface": source.surface.name, "smoothing_instants": smoothing, "fps": rate}
        result = together(kept.instants, source, meta)
        result = (result.smoothed(smoothing) if smoothing else result).with_keypoints(source.surface)
        metrics = errors(result, source)
        write(result, partial_folder, rate, metrics)
    said = [f"{out}: {int((result.agreement > 0).sum())} of {len(result)} instants have a surface", *quality(result)]
    said.append(f"written: {', '.join(sorted(file.name for file in Path(out).iterdir()))}")
    if fps is None and source.fps is None:
        said += [
            f"the capture does not say its instants per second: {rate:g} are assumed in what plays, --fps says others"
        ]
    return "\n".join([*said, *(f"{key:<32} {value:9.3f}" for key, value in metrics.items())])


def quality(result: Reconstruction) -> list[str]:
    """Say how much of the surface was triangulated, from how many views, and how well these agree."""
    found = np.isfinite(result.points).all(axis=-1) & (result.views > 0)
    if not found.any():
        return ["no part of the surface is seen alike by enough views"]
    return [
        f"{100 * found.mean():.0f} % of the surface is triangulated, a point from {result.views[found].mean():.1f} "
        f"views on average; they miss it by {np.median(result.residual[found]):.2f} px of the detector's crops (median)"
    ]


class FoundInstants(FieldsCallback[list[Instant]]):
    """Collects the reconstructed instants of predicted batches, in order.

    Args:
        workers: inside their ``with`` block, see `InstantReconstructor`.
        kept: gets them.
    """

    def __init__(self, workers: Workers[Fields, list[Instant]], kept: KeptInstants) -> None:
        super().__init__(workers)
        self.kept = kept

    def take(self, found: list[Instant]) -> None:
        """Keep them."""
        self.kept.add(found)


def rest_of(capture: Capture, split: str, done: int) -> str:
    """SPLIT:start:stop:step of the instants of a split that follow the first `done` ones."""
    name, _, chosen = split.partition(":")
    if not done:
        return split
    start, stop, step = slice(*parse_slice(chosen, split)).indices(len(capture.instants(name or None)))
    return f"{name}:{start + done * step}:{stop}:{step}"


def from_labels(views: str, found: FoundInstants, keypoints: list[str] | None) -> None:
    """Hand over a capture's labels as fields.

    Args:
        views: PATH#SPLIT, PATH# for all instants.
        found: takes them.
        keypoints: names of the capture's keypoints that go with them.
    """
    data = LabelledDataModule(predict=views, size=LABEL_SIZE, stride=LABEL_STRIDE, joints=keypoints)
    data.setup("predict")
    for batch in data.predict_dataloader()[0]:
        if "coordinate" not in batch:
            raise InputError(f"{views.rstrip(SPLIT_MARK)} has no labels, expected a detector: --ckpt-path NAME")
        foreground = batch["foreground"] & batch["has_label"][..., None, None]
        found.hand_over(Fields.of_batch(batch, batch["coordinate"], foreground))
    found.finish()


class InstantReconstructor:
    """Finds the surface of instants in space, twice: vertex by vertex, and as a whole.

    Args:
        capture: path of the capture that the fields are of.
        settings: how vertices are triangulated.
        registration: how the surface is registered.
        captured_masks: whether it fills the captured masks.
        keypoints: what the joints of the fields are, which pull it.
    """

    def __init__(
        self,
        capture: Path,
        settings: ReconstructionSettings,
        registration: RegistrationSettings | None,
        captured_masks: bool,
        keypoints: list[str],
    ) -> None:
        surface = Capture.open(capture).surface
        self.reconstructor = Reconstructor(surface, settings, vertex_samples(surface))
        self.registration = SurfaceRegistration(surface, registration, keypoints)
        self.captured_masks = captured_masks

    def __call__(self, fields: Fields) -> list[Instant]:
        """Reconstruct the instants of some fields."""
        camera, present = fields.camera, fields.present
        seen = self.reconstructor.observed(fields.coordinate, fields.foreground, camera, present)
        found = self.reconstructor.triangulated(seen, camera, present)
        mask = silhouettes(fields) if self.captured_masks else None
        registered = self.registration(fields.coordinate, fields.foreground, camera, present, mask, fields.joints)
        vertices = registered.vertices
        known = vertices.isfinite().all(-1).all(-1)
        visible = self.reconstructor.visible(vertices.nan_to_num(), camera) & (present & known[:, None])[..., None]
        origin = fields.origin[:, None].to(vertices)
        parts = {
            "points": found.points + origin,
            "confidence": confidence(seen, found),
            "residual": found.residual,
            "views": found.views.to(torch.uint8),
            "vertices": vertices + origin,
            "agreement": registered.agreement,
            "seen": visible.sum(1).to(torch.uint8),
            "colour": colours(fields.image, vertices.nan_to_num(), camera, visible),
        }
        arrays = {"frame": np.array(fields.frame)} | {name: part.cpu().numpy() for name, part in parts.items()}
        there = np.flatnonzero(present.any(1).cpu().numpy())
        return [{name: values[index] for name, values in arrays.items()} for index in there]


def colours(image: Tensor, vertices: Tensor, camera: Camera, visible: Tensor) -> Tensor:
    """(B, N, 3) uint8, mean colour of points over the views that see them.

    Args:
        image: (B, V, 3, h, w) in [0, 1].
        vertices: (B, N, 3) [m].
        camera: (B, V).
        visible: (B, V, N) bool.
    """
    pixels = camera.project(vertices[:, None].to(camera.dtype))[0].nan_to_num()
    size = camera.image_size.flatten(0, 1)
    planes = [sample_cells(plane.flatten(0, 1), pixels.flatten(0, 1), size) for plane in image.unbind(2)]
    colour = torch.stack(planes, -1).unflatten(0, visible.shape[:2])
    mean: Tensor = (colour * visible[..., None]).sum(1) / visible.sum(1)[..., None].clamp_min(1)
    return (255 * mean).round().to(torch.uint8)


def together(instants: list[Instant], capture: Capture, meta: dict[str, Any]) -> Reconstruction:
    """Put instants together, without keypoints."""
    moments = [capture.frames[str(one["frame"])] for one in instants]
    return Reconstruction(
        sequence=np.array([one.sequence for one in moments]),
        time=np.array([one.time for one in moments], np.int64),
        keypoints=np.zeros((len(instants), 0, 3)),
        keypoint_names=np.zeros(0, dtype="U1"),
        rest=capture.surface.vertices,
        faces=capture.surface.faces.astype(np.int32),
        up=upright(capture.cameras.values()),
        meta=meta,
        **{name: np.stack([one[name] for one in instants]) for name in instants[0]},
    )


def errors(result: Reconstruction, capture: Capture) -> dict[str, float]:
    """Errors against the posed surfaces that a capture knows; empty where it knows none.

    Returns:
        Those of `SurfaceError3D` for the visible regions, ``visible_...``, of which ``visible_surface_recovered`` is
        the coverage, and for the registered surface, ``registered_...``; those of `KeypointError3D` for the latter.
    """
    surface = capture.surface
    visible, registered, joints = SurfaceError3D(), SurfaceError3D(), KeypointError3D()
    reconstructor = Reconstructor(surface, ReconstructionSettings(points=1), vertex_samples(surface))
    mixture = keypoint_mixture(surface) if surface.joints else None
    faces = torch.from_numpy(surface.faces)
    known = [(index, capture.truth(frame)) for index, frame in enumerate(result.frame.tolist())]
    known = [(index, truth) for index, truth in known if truth is not None]
    for index, truth in known:
        true, vertices = torch.from_numpy(truth)[None], torch.from_numpy(result.vertices[index])[None]
        cameras = Camera.stack([capture.camera(view) for view in capture.frames[result.frame[index]].views])[None]
        shown = reconstructor.visible(true, cameras).sum(1) >= 2
        visible.update(torch.from_numpy(result.points[index])[None], true, shown, true, faces)
        registered.update(vertices, true, torch.ones_like(shown), true, faces)
        if mixture is not None:
            joints.update(*keypoints(vertices, true, mixture))
    if not known:
        return {}
    values = {f"visible_{name}": float(value) for name, value in visible.compute().items()}
    values |= {f"registered_{name}": float(value) for name, value in registered.compute().items()}
    return values | ({} if mixture is None else {name: float(value) for name, value in joints.compute().items()})


def write(result: Reconstruction, folder: Path, fps: float, metrics: dict[str, float]) -> None:
    """Write all files of a reconstruction into a folder that is there."""
    result.save(folder)
    for name in ("surface", "visible", "takes"):
        (folder / name).mkdir()
    for index, frame in enumerate(result.frame.tolist()):
        colour = dict(zip(("red", "green", "blue"), result.colour[index].T, strict=True))
        if np.isfinite(result.vertices[index]).all():
            write_ply(folder / "surface" / f"{frame}.ply", result.vertices[index], result.faces, colour)
        there = result.views[index] > 0
        extra = {name: value[there] for name, value in colour.items()}
        extra |= {name: getattr(result, name)[index][there] for name in ("confidence", "residual", "views")}
        write_ply(folder / "visible" / f"{frame}.ply", result.points[index][there], None, extra)
    names = result.keypoint_names.tolist()
    for take, own in result.takes().items():
        known = own[np.isfinite(result.vertices[own]).all((1, 2))]
        if len(known):
            notes = {**result.meta, "take": take, "frames": result.frame[known].tolist()}
            seconds, tint = (result.time[known] - result.time[known[0]]) / fps, result.mean_colour(known)
            glb = folder / "takes" / f"{take}.glb"
            write_glb(glb, seconds, result.vertices[known], result.faces, tint, result.up, notes)
        if names:
            write_trc(folder / "takes" / f"{take}.trc", result.time[own].tolist(), names, result.keypoints[own], fps)
    if names:
        frames, sequences, times = (one.tolist() for one in (result.frame, result.sequence, result.time))
        write_keypoints_csv(folder / "keypoints.csv", frames, sequences, times, names, result.keypoints)
    if metrics:
        write_text(folder / "metrics.json", json.dumps(metrics, indent=1) + os.linesep)
