"""A detector labels unlabelled views by what it says of all views of an instant together, for itself to learn from."""

from functools import partial
from pathlib import Path
from typing import Literal

import torch

from dkp.callbacks.pseudo_labels import InstantLabeller, PseudoLabelWriter
from dkp.captures import Capture, CaptureWriter
from dkp.captures.splits import SPLIT_MARK, split_of
from dkp.config_files import run_config
from dkp.errors import InputError
from dkp.reconstruction import ReconstructionSettings, RegistrationSettings
from dkp.runs.lightning import run
from dkp.workers import Workers


def pseudo_label(
    config: str,
    ckpt_path: str,
    out: str,
    capture: str | None = None,
    method: Literal["triangulation", "registration"] = "triangulation",
    points: int = 4000,
    min_views: int = 3,
    sigma: float | None = None,
    threshold: float = 0.06,
    registration: RegistrationSettings | None = None,
    keypoints: list[str] | None = None,
    least_agreement: float = 0.28,
    least_region: float = 0.2,
    captured_masks: bool = True,
    hide_background: bool = False,
    workers: int | None = None,
    executor: str = "local",
    overwrite: bool = False,
) -> Capture:
    """Label the views of a capture with what a detector says of all views of an instant together.

    By triangulation, surface points are found in each view's field, triangulated robustly from all views each for
    itself, and projected into all views. By registration, the surface as a whole, which bends but does not stretch, is
    brought to where all views see it, into their silhouettes (the captured masks, or else the predicted foreground),
    and projected. See `dkp.callbacks.InstantLabeller` for which points label which view. The capture that is written
    has the same images with these points as labels, in the split "train", and the registered surfaces as its posed
    surfaces.

    Args:
        config: A run's config.yaml, which describes the detector.
        ckpt_path: The detector's checkpoint, or the name of a shipped one (with configs/NAME/evaluate.yaml or another
            config).
        out: Folder of the capture to write.
        capture: PATH or PATH#SPLIT of the views to label; without a split, "train" is taken. Default: the run's target.
        method: "triangulation" or "registration".
        points: How many surface points.
        min_views: Least number of views that have to agree on a triangulated point.
        sigma: Width of the match between a cell's coordinate and a point [m]; default 3 % of the surface's largest
            side; for triangulation, as the next.
        threshold: Greatest reprojection distance of a view that agrees, as a share of the image's longer side.
        registration: How the surface is registered.
        keypoints: Named points of the surface, such as left_wrist, that pull the registered surface to where the
            capture's detections of them meet; default none.
        least_agreement: Mean weight of the pixels of an instant whose registered surface is believed, from 0 to 1;
            other instants are left out.
        least_region: A part of the registered surface labels nothing where its pixels' mean weight is less than this
            share, from 0 to 1, of the whole surface's: where no view sees an arm, or views disagree on it.
        captured_masks: Whether a registered surface fills the captured masks, which also are those of the labels; else
            the predicted foreground is.
        hide_background: Whether the detector sees black where the captured masks are off; views without a mask it sees
            as they are.
        workers: Processes that label; default one for each core; where there is a GPU this one alone, on the GPU.
        executor: "local", or "dask:ADDRESS" for the workers of a cluster, see docs/scaling.md.
        overwrite: Whether an existing capture is replaced.

    Returns:
        The capture.
    """
    for name, share in (("least_agreement", least_agreement), ("least_region", least_region)):
        if not 0 <= share <= 1:
            raise InputError(f"{name} is {share} where a number from 0 to 1 is expected")
    path, split = split_of(capture or target_of(config), "train")
    source = Capture.open(path)
    source.instants(split)  # an unknown split is refused before anything is read
    joints = joint_words(source, keypoints)
    settings = ReconstructionSettings(points=points, min_views=min_views, sigma=sigma, threshold=threshold)
    writing = CaptureWriter(
        out,
        name=f"{source.name}-pseudo",
        surface=source.surface_source,
        cameras=source.cameras,
        unit=source.unit,
        source=f"labelled by {method} of a detector's fields, {ckpt_path}; images: {source.source}",
        licence=source.licence,
        fps=source.fps,
        overwrite=overwrite,
    )
    with writing as writer:
        folders = Path(path).absolute(), writer.folder
        least = least_agreement, least_region
        make = partial(
            InstantLabeller, *folders, settings, method, registration, *least, captured_masks, keypoints or []
        )
        with Workers(make, workers or (1 if torch.cuda.is_available() else None), executor) as pool:
            labels = PseudoLabelWriter(pool, writer)
            words = [
                f"--config={config}",
                f"--ckpt_path={ckpt_path}",
                f"--data.predict={path}{SPLIT_MARK}{split or ''}",
            ]
            words += ["--trainer.logger=false", "--trainer.devices=1", "--trainer.strategy=auto"]
            words += ["--data.hide_background=constant"] if hide_background else []
            run("predict", [*words, *joints], [labels])
        if labels.refused:
            print(
                f"{len(labels.refused)} of {len(labels.refused) + len(labels.frames)} instants are left out: their "
                f"pixels do not agree with a surface (--least-agreement {least_agreement:g})"
            )
        if not labels.points and method == "registration":
            raise InputError(
                f"{ckpt_path}: no instant of {path} agrees with a registered surface to {least_agreement:g}, "
                "expected a detector that is right in most places (see --least-agreement and --registration)"
            )
        if not labels.points:
            raise InputError(
                f"{ckpt_path}: no surface point was triangulated in {path}, expected a detector of whose fields "
                f"{min_views} agree on some (see --sigma, --threshold and --min-views)"
            )
        writer.splits = {"train": labels.frames}
    return Capture.open(out)


def joint_words(capture: Capture, keypoints: list[str] | None) -> list[str]:
    """Words of `dkp predict` by which the data give a capture's keypoints of these names, and no others.

    Raises:
        InputError: the capture has no detection of one of them.
    """
    known = {name for view in capture.views for name in view.joints or ()}
    if missing := [name for name in keypoints or () if name not in known]:
        raise InputError(
            f"keypoints: found {', '.join(missing)}, expected some of the keypoints that {capture.path} has: "
            f"{', '.join(sorted(known)) or 'it has none'}"
        )
    return [f"--data.joints=[{','.join(keypoints)}]"] if keypoints else []


def target_of(config: str) -> str:
    """Return the `target` of a run's saved configuration."""
    target = run_config(config).get("target")
    if not isinstance(target, str):
        raise InputError(f"config {config}: target is {target!r}, expected a capture; name one with --capture")
    return target
