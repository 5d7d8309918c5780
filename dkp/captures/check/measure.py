"""Checking a capture: every file is decoded, and the geometry is compared with what labels and joints say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch

from dkp.captures.arrays import whole_number
from dkp.captures.capture import Capture
from dkp.captures.check.correspondences import CoordinateImage, dense_matches, joint_matches, sparse_matches
from dkp.captures.check.images import Detector
from dkp.captures.check.judge import Finding
from dkp.captures.check.report import (
    RESIDUAL_KINDS,
    CameraRow,
    CheckReport,
    LabelAgreement,
    PairRow,
    Residual,
    SplitRow,
)
from dkp.captures.check.subject_point import instant_point, spread
from dkp.captures.check.suspicions import suspicions
from dkp.captures.crops import apply_affine, invert_affine
from dkp.captures.images import in_threads
from dkp.captures.manifest import CAPTURE_FILE, FILE_KEYS, Instant, View
from dkp.captures.rig import camera_size
from dkp.errors import InputError
from dkp.geometry import FLAT, Camera, baseline_angle, eligible_pairs, epipolar_distance, epipole, fundamental_matrix

LARGE_RESIDUAL = 0.03  # share of the image width from which a pair's median epipolar residual is warned about
_FITS = 0.05  # share of the worst residual by which a pair fits


def check_capture(capture: Capture, *, instants: int = 40, detector: Detector | None = None) -> CheckReport:
    """Decode every file of a capture and measure how well cameras and labels agree.

    Args:
        capture: the capture.
        instants: how many instants, evenly spread, are looked at for pair angles, residuals and label agreement.
        detector: of the capture's surface, which says what the images of a few instants show; None looks at no image.

    Returns:
        The report; files that are not usable are its ``problems``.

    Raises:
        InputError: ``instants`` is no number of at least one.
    """
    whole_number(instants, "instants", least=1)
    broken = _decode_everything(capture)
    usable = []
    for instant in capture.instants():
        views = tuple(view for view in instant.views if not broken.keys() & {getattr(view, key) for key in FILE_KEYS})
        if len(views) >= 2 and instant.frame not in broken:
            usable.append(replace(instant, views=views))
    chosen = spread(usable, instants)
    points = {instant.frame: instant_point(capture, instant) for instant in chosen}
    known = [point for point in points.values() if point is not None]
    subject = np.median(known, axis=0) if known else None
    surface = capture.surface
    pairs, residuals = _pair_rows(capture, chosen, points)
    findings, doubts, seen = suspicions(capture, chosen, usable, detector)
    return CheckReport(
        name=capture.name,
        path=str(capture.path),
        unit=capture.unit,
        fps=capture.fps,
        surface=f"{surface.name} ({len(surface.vertices)} vertices, {len(surface.faces)} faces)",
        source=capture.source,
        subject=None if subject is None else [round(float(value), 4) for value in subject],
        cameras=_camera_rows(capture, subject),
        splits=_split_rows(capture),
        pairs=pairs,
        residuals=residuals,
        labels=_label_agreement(capture, chosen),
        seen={name: round(share, 3) for name, share in seen.items()},
        problems=list(broken.values()),
        findings=findings,
        warnings=[*(finding.sentence for finding in findings), *doubts, *_warnings(capture, subject, pairs, findings)],
    )


def _decode_everything(capture: Capture) -> dict[str, str]:
    """Return file (for the posed surface: frame) -> one sentence, for every file that is not usable."""
    _ = capture.surface  # an unusable surface is an error of its own

    def tried(reads: dict[str | None, Callable[[], object]]) -> dict[str, str]:
        found = {}
        for file, read in reads.items():
            try:
                if file is not None:
                    read()
            except InputError as error:
                found[file or ""] = str(error)
        return found

    def view_problems(view: View) -> dict[str, str]:
        return tried(
            {
                view.image: lambda: capture.image(view),
                view.mask: lambda: _some_foreground(capture, view.mask, capture.mask(view)),
                view.label: lambda: _label_foreground(capture, view),
                view.points: lambda: capture.points(view),
            }
        )

    def truth_problems(frame: str) -> dict[str, str]:
        return tried({frame: lambda: capture.truth(frame)})

    found = in_threads(view_problems, capture.views)
    found += in_threads(truth_problems, list(capture.frames))
    return {file: sentence for problems in found for file, sentence in problems.items()}


def _some_foreground(capture: Capture, file: str | None, foreground: np.ndarray | None) -> None:
    if file is not None and foreground is not None and not foreground.any():
        raise InputError(f"{capture.path / file} has no foreground pixel, expected some (or no such file for the view)")


def _label_foreground(capture: Capture, view: View) -> None:
    label = capture.label(view)
    _some_foreground(capture, view.label, None if label is None else label.foreground)


def _camera_rows(capture: Capture, subject: np.ndarray | None) -> list[CameraRow]:
    counts = Counter(view.camera for view in capture.views)
    rows = []
    for name, camera in capture.cameras.items():
        distance = None if subject is None else float(np.linalg.norm(camera.centre().numpy() - subject))
        rows.append(
            CameraRow(
                name=name,
                size=list(camera_size(camera)),
                focal=round(float(camera.intrinsics[0, 0]), 1),
                distance=None if distance is None else round(distance, 3),
                views=counts[name],
            )
        )
    return rows


def _split_rows(capture: Capture) -> list[SplitRow]:
    rows = []
    for split in [None, *capture.splits]:
        chosen = capture.instants(split)
        views = [view for instant in chosen for view in instant.views]
        rows.append(
            SplitRow(
                name="(all)" if split is None else split,
                instants=len(chosen),
                views=len(views),
                masks=sum(view.mask is not None for view in views),
                labels=sum(view.label is not None for view in views),
                points=sum(view.points is not None for view in views),
                joints=sum(bool(view.joints) for view in views),
            )
        )
    return rows


def _pair_rows(
    capture: Capture, instants: Sequence[Instant], points: dict[str, np.ndarray | None]
) -> tuple[list[PairRow], dict[str, Residual]]:
    """Return a row for each pair, and the residuals of all pairs together by kind."""
    angles: dict[tuple[str, str], list[float]] = {}
    inside: dict[tuple[str, str], list[bool]] = {}
    eligible: dict[tuple[str, str], list[bool]] = {}
    residuals: dict[tuple[str, str, str], list[np.ndarray]] = {}
    order = {name: index for index, name in enumerate(capture.cameras)}
    limits = FLAT if capture.surface.is_flat else {}
    for instant in instants:
        views = sorted(instant.views, key=lambda view: order[view.camera])
        cameras = [capture.camera(view) for view in views]
        found = points[instant.frame]
        point = None if found is None else torch.as_tensor(found)
        allowed = {tuple(pair) for pair in eligible_pairs(Camera.stack(cameras), point, **limits).tolist()}
        images = [_coordinate_image(capture, view) for view in views]
        for i, j in combinations(range(len(views)), 2):
            pair = (views[i].camera, views[j].camera)
            angles.setdefault(pair, []).append(float(baseline_angle(cameras[i], cameras[j], point)))
            inside.setdefault(pair, []).append(_sees(cameras[i], cameras[j]) or _sees(cameras[j], cameras[i]))
            eligible.setdefault(pair, []).append((i, j) in allowed)
            for source, pixels, other in _matches(capture, views[i], views[j], images[i], images[j]):
                if len(pixels):
                    stored = epipolar_residual(cameras[i], cameras[j], pixels, other)
                    camera, pixels = _source(capture, views[i], cameras[i], pixels)
                    other_camera, other = _source(capture, views[j], cameras[j], other)
                    distance = np.stack([stored, epipolar_residual(camera, other_camera, pixels, other)])
                    residuals.setdefault((*pair, source), []).append(distance)
    rows = []
    for pair in sorted(angles, key=lambda pair: (order[pair[0]], order[pair[1]])):
        rows.append(
            PairRow(
                cameras=list(pair),
                instants=len(angles[pair]),
                angle=round(float(np.median(angles[pair])), 1),
                epipole_inside=round(float(np.mean(inside[pair])), 3),
                eligible=round(float(np.mean(eligible[pair])), 3),
                residuals={
                    kind: _summary(residuals[*pair, kind]) for kind in RESIDUAL_KINDS if (*pair, kind) in residuals
                },
            )
        )
    together = {
        kind: [distance for key, found in residuals.items() if key[2] == kind for distance in found]
        for kind in RESIDUAL_KINDS
    }
    return rows, {kind: _summary(found) for kind, found in together.items() if found}


def _summary(distances: list[np.ndarray]) -> Residual:
    """Sum up distances (2, N) [px] of stored images and of source frames."""
    together = np.concatenate(distances, axis=1)
    stored, source = ((round(float(row.mean()), 3), round(float(np.median(row)), 3)) for row in together)
    return Residual(together.shape[1], *stored, *source)


def _coordinate_image(capture: Capture, view: View) -> CoordinateImage | None:
    label = capture.label(view)
    return None if label is None else CoordinateImage.create(label, capture.surface)


def _matches(
    capture: Capture, view: View, other: View, image: CoordinateImage | None, other_image: CoordinateImage | None
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return what two views have in common: kind, pixels (N, 2) and the other view's pixels (N, 2)."""
    found = []
    if image is not None and other_image is not None:
        found.append(("label", *dense_matches(image, other_image)))
    points, other_points = capture.points(view), capture.points(other)
    if points is not None and other_points is not None:
        found.append(("points", *sparse_matches(points, other_points, capture.surface)))
    found.append(("joints", *joint_matches(view, other)))
    return found


def _sees(camera: Camera, other: Camera) -> bool:
    """Whether the epipole of the other camera lies in the camera's image."""
    position = epipole(camera, other)
    return bool(((position >= 0) & (position <= camera.image_size)).all())


def _source(capture: Capture, view: View, camera: Camera, pixels: np.ndarray) -> tuple[Camera, np.ndarray]:
    """Take a view's camera and pixels (N, 2) back through its crop, to the pixels of the camera that took it."""
    if view.crop is None:
        return camera, pixels
    back = invert_affine(np.asarray(view.crop, np.float64))
    size = camera_size(capture.cameras[view.camera])
    return camera.transform(torch.as_tensor(back), *size), apply_affine(back, pixels)


def epipolar_residual(camera: Camera, other: Camera, pixels: np.ndarray, other_pixels: np.ndarray) -> np.ndarray:
    """Return the symmetric epipolar distance (N,) [px] of corresponding pixels (N, 2), lens distortion removed."""
    straight = camera.undistort(torch.as_tensor(pixels)), other.undistort(torch.as_tensor(other_pixels))
    return epipolar_distance(*straight, fundamental_matrix(camera, other), kind="symmetric").numpy()


def _label_agreement(capture: Capture, instants: Sequence[Instant]) -> LabelAgreement | None:
    """Compare dense labels with the posed surface: where the named surface point projects to, against the pixel."""
    pixel_errors, ray_errors = [], []
    for instant in instants:
        truth = capture.truth(instant.frame)
        for view in instant.views if truth is not None else ():
            label = capture.label(view)
            if label is None or truth is None:
                continue
            rows, columns = np.nonzero(label.foreground)
            corners = truth[capture.surface.faces[label.face[rows, columns]]]
            points = np.einsum("nk,nki->ni", label.barycentric[rows, columns].astype(np.float64), corners)
            pixels = torch.as_tensor(np.stack([columns, rows], -1) + 0.5)
            camera = capture.camera(view)
            projected, _ = camera.project(torch.as_tensor(points))
            pixel_errors.append((projected - pixels).norm(dim=-1).numpy())
            from_centre = torch.as_tensor(points) - camera.centre()
            ray_errors.append(torch.linalg.cross(camera.rays(pixels), from_centre).norm(dim=-1).numpy() * 100)
    if not pixel_errors:
        return None
    pixel_error, ray_error = np.concatenate(pixel_errors), np.concatenate(ray_errors)
    return LabelAgreement(
        pixels=len(pixel_error),
        mean_px=round(float(pixel_error.mean()), 4),
        max_px=round(float(pixel_error.max()), 4),
        mean_cm=round(float(ray_error.mean()), 4),
        max_cm=round(float(ray_error.max()), 4),
    )


def _warnings(
    capture: Capture, subject: np.ndarray | None, pairs: Sequence[PairRow], findings: Sequence[Finding]
) -> list[str]:
    warnings, explained = list[str](), {name for finding in findings for name in finding.cameras}
    counts = Counter(view.camera for view in capture.views)
    if len({counts[name] for name in capture.cameras}) > 1:
        found = ", ".join(f"{name} {counts[name]}" for name in capture.cameras)
        warnings.append(f"the cameras have different numbers of views: {found}")
    alone = sum(len(instant.views) < 2 for instant in capture.instants())
    if alone:
        warnings.append(f"{alone} of {len(capture.frames)} instants have one view only: they give no pair")
    if not capture.splits:
        warnings.append(f"{CAPTURE_FILE} has no splits: commands that ask for one will not find it")
    for first, second in combinations(capture.splits, 2):
        shared = len(set(capture.splits[first]) & set(capture.splits[second]))
        if shared:
            warnings.append(f"the splits {first} and {second} share {shared} frames")
    if subject is not None:
        distances = [float(np.linalg.norm(c.centre().numpy() - subject)) for c in capture.cameras.values()]
        middle = float(np.median(distances))
        if not 0.1 <= middle <= 100:
            warnings.append(_unit_sentence(capture, middle))
    widths = {view.camera: view.size[0] for view in capture.views}
    medians = [residual.median for pair in pairs for residual in pair.residuals.values()]
    if explained == set(capture.cameras) and min(medians, default=0.0) < _FITS * max(medians, default=0.0):
        explained = set()  # what is wrong in all cameras is wrong in all pairs
    for pair in pairs:
        first, second = pair.cameras
        limit = LARGE_RESIDUAL * max(widths[first], widths[second])
        for kind, residual in pair.residuals.items():
            if residual.median > limit and not explained & {first, second}:
                warnings.append(
                    f"{first} and {second} have a median epipolar residual of {residual.median:.1f} px from {kind}: "
                    "calibration, synchronisation or the order of the cameras may be wrong"
                )
    if pairs and not any(pair.eligible >= 0.5 for pair in pairs):
        warnings.append("no camera pair suits training: all see the subject under too small or too large an angle")
    return warnings


def _unit_sentence(capture: Capture, distance: float) -> str:
    """Say that the cameras' distance from the subject [m] cannot be, and by which unit it could."""
    centres = np.stack([camera.centre().numpy() for camera in capture.cameras.values()])
    apart = float(np.linalg.norm(centres[:, None] - centres, axis=-1).max())
    said = f"the cameras are {distance:,.4g} m from the subject and up to {apart:,.4g} m apart: "
    for right, given, factor in (("mm", "m", 1e-3), ("cm", "m", 1e-2), ("m", "cm", 1e2), ("m", "mm", 1e3)):
        if 0.5 <= factor * distance <= 20:
            return f"{said}where --unit {given} was given, --unit {right} makes it {factor * distance:.2g} m"
    return f"{said}is the unit ({capture.unit}) right?"
