"""`dkp check`: what a check of a capture found, as tables, JSON, or a page with epipolar lines over its images."""

import html as text
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from json import dumps
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from dkp import weights
from dkp.captures import Capture, View
from dkp.captures.check import CheckReport, check_capture
from dkp.captures.check.evidence import Points, shown_points
from dkp.captures.check.images import Detector
from dkp.captures.check.measure import LARGE_RESIDUAL, epipolar_residual
from dkp.captures.check.subject_point import spread
from dkp.errors import InputError
from dkp.files import write_text
from dkp.geometry import Camera
from dkp.inference import load
from dkp.viz.page import jpeg, page

_INSTANTS, _PAIRS, _POINTS, _SIDE = 3, 10, 8, 480  # on a page: instants, pairs and points of each; px of an image
_CORNERS = 100  # of a line that a lens curves
_COLOURS = ("#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6")
_STYLE = """<style>
body { max-width: 1400px; } figure { display: inline-block; margin: 0 1.2em 1.2em 0; } svg { display: inline-block; }
svg.view { width: 320px; margin-right: 4px; overflow: hidden; } svg.view * { vector-effect: non-scaling-stroke; }
polyline { fill: none; stroke-width: 1.3; } circle { fill-opacity: .35; stroke-width: 1.5; }
.cause { background: #fef3c7; padding: .6em 1em; } svg.view:hover { width: 640px; }
</style>"""


class CaptureDoubted(Exception):
    """A strict check of a capture warns; the message counts the warnings and gives the first."""


def check(
    capture: str | Path,
    *,
    json: bool = False,
    html: str | Path | None = None,
    instants: int = 40,
    strict: bool = False,
    ckpt_path: str | Path | None = None,
) -> CheckReport | str:
    """Check a capture: every file, and how well cameras, labels, joints and masks agree.

    What looks wrong but can be used is a warning, in a list at the end. Where views disagree, the check tries what may
    be wrong (exchanged cameras, a transposed rotation, a pose from camera to world, mirrored images, late frames,
    images resized or cut after the calibration, a camera that has moved) and names what explains it. Joints that agree
    with each other are compared with the images of a few instants, as a detector sees them.

    Args:
        capture: the capture's folder.
        json: whether to return JSON instead of a report that prints as tables.
        html: a page to write as well, X.html: epipolar lines over pairs of views, distances and what explains them.
        instants: how many instants are looked at for pair angles, residuals and label agreement.
        strict: whether a warning is an error.
        ckpt_path: name of a shipped detector, folder of a run, checkpoint or model that looks at the images; default:
            the shipped one of the capture's surface, if there is one; "none" looks at no image.

    Raises:
        InputError: the capture cannot be opened, or a file in it is not usable; the report is printed before.
        CaptureDoubted: there are warnings and the check is strict; the report is printed before.
    """
    if html is not None and Path(html).suffix != ".html":
        raise InputError(f"html is {html}, expected the name of a page that ends in .html")
    opened = Capture.open(capture)
    report = check_capture(opened, instants=instants, detector=detector_of(opened, ckpt_path))
    if html is not None:
        Path(html).parent.mkdir(parents=True, exist_ok=True)
        write_text(html, check_page(opened, report))
        print(f"dkp: wrote {html}", file=sys.stderr)
    shown = dumps(asdict(report), indent=1) if json else report
    if report.problems:
        print(shown)
        more = f" (and {len(report.problems) - 1} more problems)" if len(report.problems) > 1 else ""
        raise InputError(report.problems[0] + more)
    if strict and report.warnings:
        print(shown)
        raise CaptureDoubted(f"{capture} has {len(report.warnings)} warning(s), the first: {report.warnings[0]}")
    return shown


def detector_of(capture: Capture, ckpt_path: str | Path | None) -> Detector | None:
    """Return what says which coordinates images show; for the arguments see `check`.

    Raises:
        InputError: there is no such detector, or it is of another surface than the capture's.
    """
    chosen = weights.shipped_for(capture.surface.name) if ckpt_path is None else ckpt_path
    if chosen is None or chosen == "none":
        return None
    predictor = load(chosen)
    if predictor.surface.vertices.shape != capture.surface.vertices.shape:
        raise InputError(
            f"{chosen} is a detector of the surface {predictor.surface.name}, expected {capture.surface.name}, that of "
            f"{capture.path}"
        )
    return lambda squares: [
        np.where(seen.inside[..., None], seen.coordinate, np.nan) for seen in predictor.crops(squares)
    ]


def check_page(capture: Capture, report: CheckReport) -> str:
    """Return a check as one html page that asks nothing of any other machine."""
    found = [finding.sentence for finding in report.findings]
    unexplained = "No cause was found for what is doubted below."
    causes = found or [unexplained] * bool(report.warnings)
    lists = [("Problems", report.problems), ("Warnings", [one for one in report.warnings if one not in found])]
    body = [_STYLE, "<h2>Likely cause</h2>" if causes else "<p class='note'>Nothing looks wrong.</p>"]
    body += [f'<p class="cause">{text.escape(one)}</p>' for one in causes]
    for title, sentences in lists:
        if sentences:
            items = "".join(f"<li>{text.escape(one)}</li>" for one in sentences)
            body.append(f"<h2>{title}</h2><ul>{items}</ul>")
    limit = LARGE_RESIDUAL * max(view.size[0] for view in capture.views)
    body += [_matrix(report, kind, limit) for kind in report.residuals]
    body += ["<h2>Epipolar lines</h2>", _EXPLAINED, *_instants(capture, report)]
    body.append(f"<h2>All that was measured</h2><pre>{text.escape(str(report))}</pre>")
    return page(f"Check of {report.name}", "\n".join(body))


_EXPLAINED = """<p class="note">Each line is where the point of its colour, marked in the other view, has to lie by the
cameras. Where the views agree, lines pass through the points of their colour. Pairs that agree least come first; an
image under the pointer is larger.</p>"""


def _matrix(report: CheckReport, kind: str, limit: float) -> str:
    """Return a table of the pairs' distances, cameras along both sides, coloured up to `limit` [px] and beyond it."""
    found = {tuple(pair.cameras): pair.residuals[kind] for pair in report.pairs if kind in pair.residuals}
    names = [camera.name for camera in report.cameras]
    rows = ["<tr><th></th>" + "".join(f"<th>{text.escape(name)}</th>" for name in names) + "</tr>"]
    for name in names:
        cells = []
        for other in names:
            residual = found.get((name, other)) or found.get((other, name))
            if residual is None:
                cells.append("<td></td>")
                continue
            shade = f"background:rgba(230,25,75,{min(max(residual.median / limit - 0.5, 0), 0.5):.2f})"
            title = f"{residual.matches} matches, mean {residual.mean:.2f} px ({residual.source_median:.2f} in frames)"
            cells.append(f'<td style="{shade}" title="{title}">{residual.median:.2f}</td>')
        rows.append(f"<tr><th>{text.escape(name)}</th>{''.join(cells)}</tr>")
    return (
        f"<h2>Distance of {kind} from their epipolar lines</h2><p class='note'>Median, px of the capture's images; "
        f"from {limit:.1f} px on something is wrong.</p>"
        f"<table>{''.join(rows)}</table>"
    )


def _instants(capture: Capture, report: CheckReport) -> list[str]:
    """Return html of some instants, with the pairs that agree least first."""
    worst = {tuple(p.cameras): max((r.source_median for r in p.residuals.values()), default=0.0) for p in report.pairs}
    parts = []
    several = [instant for instant in capture.instants() if len(instant.views) >= 2]
    for number, instant in enumerate(spread(several, _INSTANTS)):
        try:
            kind, points = shown_points(capture, instant)
            images = {view.camera: _image(capture, view) for view in instant.views}
            if not kind:
                points = {view.camera: _grid(capture, view) for view in instant.views}
        except InputError:
            continue  # among the problems
        views = {view.camera: view for view in instant.views}
        present = [name for name in capture.cameras if name in views]
        pairs = sorted(combinations(present, 2), key=lambda pair: -worst.get(pair, 0.0))
        shown = sorted({name for pair in pairs[:_PAIRS] for name in pair}, key=list(views).index)
        ids = {name: f"i{number}-{index}" for index, name in enumerate(shown)}
        parts.append(f"<h3>{text.escape(instant.frame)}: {kind or 'points of a grid'}</h3>")
        parts.append('<svg width="0" height="0"><defs>')
        for name in shown:
            width, height = views[name].size
            parts.append(f'<image id="{ids[name]}" width="{width}" height="{height}" href="{images[name]}"/>')
        parts.append("</defs></svg>")
        parts += [_pair(capture, views[one], views[other], points, ids) for one, other in pairs[:_PAIRS]]
    return parts


def _image(capture: Capture, view: View) -> str:
    image = capture.image(view)
    scale = min(1.0, _SIDE / max(image.shape[:2]))
    return jpeg(image if scale == 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def _grid(capture: Capture, view: View) -> dict[str, tuple[float, float]]:
    """Points over the subject's mask, or over the middle half of the image."""
    mask, size = capture.mask(view), np.array(view.size)
    low, high = size / 4, 3 * size / 4
    if mask is not None and mask.any():
        corners = np.argwhere(mask)[:, ::-1]
        low, high = corners.min(0) + 0.5, corners.max(0) + 0.5
    steps = low + (high - low) * np.array([[x, y] for y in (0.2, 0.5, 0.8) for x in (0.3, 0.7)])
    return {f"{view.camera} {index}": (float(x), float(y)) for index, (x, y) in enumerate(steps)}


def _pair(capture: Capture, view: View, other: View, points: Points, ids: Mapping[str, str]) -> str:
    ours, theirs = points.get(view.camera, {}), points.get(other.camera, {})
    both = [name for name in ours if name in theirs]
    names = both or [*ours, *theirs]
    names = [names[index] for index in np.unique(np.linspace(0, len(names) - 1, min(_POINTS, len(names))).astype(int))]
    cameras = capture.camera(view), capture.camera(other)
    drawn = [
        _drawn(own, camera, ids[own.camera], names, own_points, far, far_points)
        for own, camera, own_points, far, far_points in (
            (view, cameras[0], ours, cameras[1], theirs),
            (other, cameras[1], theirs, cameras[0], ours),
        )
    ]
    said = f"{view.camera} and {other.camera}"
    if both:
        pixels = [np.array([side[name] for name in both], np.float64) for side in (ours, theirs)]
        said += f": median {np.median(epipolar_residual(*cameras, *pixels)):.1f} px of these images, {len(both)} points"
    return f"<figure>{''.join(drawn)}<figcaption>{text.escape(said)}</figcaption></figure>"


def _drawn(
    view: View,
    camera: Camera,
    image: str,
    names: Sequence[str],
    points: Mapping[Any, Any],
    other: Camera,
    others: Mapping[Any, Any],
) -> str:
    """Return a view with its points, and the epipolar lines of the other view's points."""
    width, height = view.size
    radius = max(width, height) / 60
    parts = []
    for colour, name in zip(_COLOURS, names, strict=False):
        title = f"<title>{text.escape(str(name))}</title>"
        if name in others:
            corners = " ".join(f"{x:.2f},{y:.2f}" for x, y in epipolar_curve(other, camera, others[name]))
            parts.append(f'<polyline stroke="{colour}" points="{corners}">{title}</polyline>')
        if name in points:
            x, y = points[name]
            place = f'cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}"'
            parts.append(f'<circle {place} fill="{colour}" stroke="{colour}">{title}</circle>')
    label = text.escape(view.camera)
    return (
        f'<svg class="view" role="img" aria-label="{label}" viewBox="0 0 {width} {height}"><use href="#{image}"/>'
        f"{''.join(parts)}</svg>"
    )


def epipolar_curve(camera: Camera, other: Camera, pixel: Sequence[float]) -> np.ndarray:
    """Return where another camera sees the line of sight of a pixel: (N, 2) [px], curved by its lens; N may be 0.

    Without the lens it is one straight piece, from the epipole or the border to the vanishing point or the border.

    Args:
        camera: that shows the pixel.
        other: in whose image the line is drawn.
        pixel: (2,) [px].
    """
    direction = camera.rays(torch.tensor([list(pixel)], dtype=torch.float64))[0]
    start = (other.intrinsics @ (other.rotation @ camera.centre() + other.translation)).numpy()
    step = (other.intrinsics @ other.rotation @ direction).numpy()  # start + t step is the point t from the camera
    (left, top), (right, bottom) = _straight_box(other)
    sides = np.array([[1, 0, -left], [0, 1, -top], [-1, 0, right], [0, -1, bottom], [0, 0, 1]])
    held, grows = sides @ start, sides @ step  # inside, held + t grows is positive for every side
    with np.errstate(divide="ignore", invalid="ignore"):
        crossed = -held / grows
        near, far = max(0.0, *crossed[grows > 0]), min(np.inf, *crossed[grows < 0])
        ends = np.array([start + near * step, step if far == np.inf else start + far * step])
        ends = ends[:, :2] / ends[:, 2:]
    if near >= far or (held[grows == 0] < 0).any() or not np.isfinite(ends).all():
        return np.zeros((0, 2))
    straight = ends[0] + np.linspace(0, 1, _CORNERS)[:, None] * (ends[1] - ends[0])
    return np.asarray(other.distort(torch.from_numpy(straight)))


def _straight_box(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Return corners around the image without distortion, at most a whole image away: farther out a lens may fold."""
    size, along = camera.image_size.numpy(), np.linspace(0, 1, 9)
    border = np.array([(x, y) for x in along for y in along if {x, y} & {0, 1}]) * size
    seen = camera.undistort(torch.from_numpy(border)).numpy()
    return np.maximum(np.nanmin(seen, axis=0), -size), np.minimum(np.nanmax(seen, axis=0), 2 * size)
