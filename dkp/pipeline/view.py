"""A capture or a reconstruction as one html page: cameras, images and the surface through time."""

import html
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps

from dkp.captures import Capture, View
from dkp.captures.crops import CropMap, crop_affine, square_box
from dkp.captures.manifest import CAPTURE_FILE
from dkp.captures.splits import split_of
from dkp.errors import InputError
from dkp.files import write_text
from dkp.geometry import upright
from dkp.importers.hull import meeting_point
from dkp.reconstruction import Reconstruction
from dkp.reconstruction.result import FILE
from dkp.viz import CoordinateColours
from dkp.viz.page import jpeg, packed, page

LEVELS = 4095
"""Steps between the two ends of a scene: half a millimetre for a person, which packs well."""

UNKNOWN_RATE = 10.0
"""Instants per second of a page, where nothing says it."""

MOST_ERROR, MOST_VIEWS = 50.0, 8.0
"""Ends of the colour scales [mm] and [views]."""

BODY = """
<style>
body {{ max-width: none; }} #whole {{ display: grid; grid-template-columns: 1fr {width}px; gap: 1em; }}
#world {{ width: 100%; height: 58vh; touch-action: none; }}
#template {{ width: 100%; height: 30vh; touch-action: none; }}
#controls {{ display: flex; flex-wrap: wrap; gap: 1em; align-items: center; }} #time {{ flex: 1; min-width: 10em; }}
#images {{ display: flex; flex-wrap: wrap; gap: .5em; margin-top: .8em; }} #bar {{ display: inline-block; width: 12em;
height: .9em; vertical-align: middle; }} canvas {{ border-radius: 4px; display: block; }}
</style>
<div id="controls"><button id="play">play</button><input id="time" type="range" min="0" value="0" aria-label="instant">
<span id="frame"></span><label>colour <select id="colour"></select></label>
<label {surface}><input id="surface" type="checkbox" checked> {kind}</label>
<label {points}><input id="points" type="checkbox"> triangulated vertices</label>
<label><input id="cameras" type="checkbox" checked> cameras</label>
<span id="legend" hidden>0 <span id="bar"></span> <span id="most"></span></span></div>
<div id="whole"><div><canvas id="world"></canvas><p class="note"><span id="picked"></span></p></div>
<div><canvas id="template"></canvas><p class="note">The template, in the same colours. Drag to turn, with shift to move,
wheel to come closer. A solid ring marks the vertex in an image, a dashed one where it faces away.</p></div></div>
<div id="images">{images}</div>
<p class="note">{note}</p>
"""


def view(source: str, out: str, instants: int = 100, side: int = 160) -> str:
    """Write a capture or a reconstruction as one html page that asks nothing of any other machine.

    It shows the cameras with their images and the surface through time: the registered and the triangulated one of a
    folder of ``dkp reconstruct``, the true one of a capture that knows it.

    Args:
        source: PATH, PATH#SPLIT or PATH#SPLIT:START:STOP:STEP of a capture, or the folder of a reconstruction.
        out: The page, X.html.
        instants: At most so many, spread evenly.
        side: Of the images [px].
    """
    if instants < 1 or side < 16:
        raise InputError(f"instants is {instants} and side {side} where 1 or more and 16 or more are expected")
    if not out.endswith(".html"):
        raise InputError(f"out is {out}, expected the name of a page that ends in .html")
    if (Path(source) / FILE).is_file():
        result = Reconstruction.open(source)
        capture = Capture.open(str(result.meta.get("capture")))
        frames = result.frame.tolist()
    else:
        path, split = split_of(source, "")
        if not (Path(path) / CAPTURE_FILE).is_file():
            raise InputError(
                f"{path} {'has no' if Path(path).exists() else 'is not there, expected a folder with'} {CAPTURE_FILE} "
                f"(a capture) or {FILE} (a reconstruction)"
            )
        capture, result = Capture.open(path), None
        frames = [one.frame for one in capture.instants(split or None)]
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(instants, len(frames))).round().astype(int))
    count = f"{len(chosen)} of {len(capture.frames)} instants"
    if len(chosen) < len(frames):
        count += f", spread over {len(frames)}: --instants takes more"
    frames = [frames[index] for index in chosen]
    data, kind, note = scene(capture, frames, side), "posed surface", capture.source
    truths = [capture.truth(frame) for frame in frames]
    unknown = np.full_like(capture.surface.vertices, np.nan)
    truth = np.stack([unknown if one is None else one for one in truths])
    shown, points, layers = truth, None, []
    if result is not None:
        kind, note = "registered surface", f"fields: {result.meta.get('fields')}"
        if result.meta.get("smoothing_instants"):
            note += f"; smoothed over {result.meta['smoothing_instants']:g} instants"
        shown, points = result.vertices[chosen].astype(np.float64), result.points[chosen].astype(np.float64)
        layers = measured(result, chosen, 1000 * np.linalg.norm(shown - truth, axis=-1))
    rate = capture.fps if result is None else result.meta.get("fps")
    data["fps"] = speed([capture.frames[frame].time for frame in frames], rate)
    data |= geometry(shown, points, data["scale"], data["middle"])
    colours = (255 * CoordinateColours(capture.surface)(capture.surface.vertices)).round().astype(np.uint8)
    data["layers"] = [{"name": "surface coordinate", "values": packed(colours)}, *layers]
    names = "".join(
        f'<figure><canvas width="{side}" height="{side}"></canvas><figcaption>{html.escape(name)}</figcaption></figure>'
        for name in capture.cameras
    )
    hidden = {True: "", False: "hidden"}
    body = BODY.format(
        width=300,
        kind=kind,
        images=names,
        note=html.escape(note),
        surface=hidden[data["surface"] is not None],
        points=hidden[points is not None],
    )
    text = page(f"{capture.name}: {count}", body, data, ("data", "viewer"))
    write_text(out, text)
    return f"dkp: wrote {out} ({len(text) / 1e6:.1f} MB), {count}"


def speed(times: list[int], rate: float | None) -> float:
    """Pictures per second at which a page plays instants of these times: as fast as it was, where that is known.

    Args:
        times: of the instants, as the capture numbers them.
        rate: how many such numbers are a second.
    """
    steps = np.diff(times)
    return float(np.clip((rate or UNKNOWN_RATE) / np.median(steps[steps > 0]), 1, 60)) if (steps > 0).any() else 1.0


def scene(capture: Capture, frames: list[str], side: int) -> dict[str, Any]:
    """Cameras, images and the template, as `viewer.js` wants them."""
    order = {name: number for number, name in enumerate(capture.cameras)}
    views = [
        [camera_view(capture, one, order[one.camera], side) for one in capture.frames[frame].views] for frame in frames
    ]
    cameras = [capture.rig_camera(one) for frame in frames for one in capture.frames[frame].views]
    centres = np.stack([camera.centre().numpy() for camera in cameras])
    towards = np.stack([camera.rotation[2].numpy() for camera in cameras])
    middle = meeting_point(centres, towards)  # of the optical axes
    surface = capture.surface
    colours = CoordinateColours(surface)
    low, high = surface.vertices.min(0), surface.vertices.max(0)
    rest = np.round(LEVELS * (surface.vertices - low) / np.maximum(high - low, 1e-9)).astype(np.uint16)
    return {
        "views": views,
        "frames": frames,
        "side": side,
        "levels": LEVELS,
        "up": upright(capture.cameras.values()).tolist(),
        "front": (centres[0] - middle).tolist(),
        "middle": middle,
        "scale": float(np.linalg.norm(centres - middle, axis=1).mean() / 2),
        "vertices": len(surface.vertices),
        "faces": packed(surface.faces.astype(np.uint32)),
        "rest": packed(rest),
        "restLow": low.tolist(),
        "restHigh": high.tolist(),
        "restUp": colours.axes[1].tolist(),
        "restFront": colours.axes[2].tolist(),
    }


def camera_view(capture: Capture, one: View, number: int, side: int) -> dict[str, Any]:
    """Return a view as a square image without distortion, and its camera."""
    camera = capture.camera(one)
    affine = crop_affine(square_box(np.array([0, 0, *one.size]), 0), side)
    image = CropMap.create(camera, affine, side).image(capture.image(one))
    own = camera.without_distortion().transform(affine, side, side)
    values = {name: getattr(own, name).numpy().round(6).tolist() for name in ("intrinsics", "rotation", "translation")}
    return {"camera": number, "image": jpeg(image), **values}


def geometry(shown: np.ndarray, points: np.ndarray | None, scale: float, middle: np.ndarray) -> dict[str, Any]:
    """Surfaces (T, V, 3) and triangulated vertices (T, V, 3) [m] as whole numbers between two corners.

    Args:
        shown: NaN in instants without a surface.
        points: NaN where there is none; None = no such vertices.
        scale: [m], of the scene, where there is no surface at all.
        middle: (3,), of the scene.
    """
    known = np.isfinite(shown).all((1, 2))
    if not known.any():
        low, high = middle - scale / 2, middle + scale / 2
        corners = {"middle": None, "low": low.tolist(), "high": high.tolist(), "known": known.tolist()}
        return corners | dict.fromkeys(("surface", "points", "validity"))
    low, high = shown[known].min((0, 1)), shown[known].max((0, 1))
    margin = 0.1 * (high - low).max()
    low, high = low - margin, high + margin

    def numbers(positions: np.ndarray) -> dict[str, Any]:
        share = np.clip(np.nan_to_num((positions - low) / (high - low)), 0, 1)
        return packed(np.round(LEVELS * share).astype(np.uint16))

    found = {"middle": None, "low": low.tolist(), "high": high.tolist(), "scale": float((high - low).max())}
    found |= {"known": known.tolist(), "surface": numbers(shown), "points": None, "validity": None}
    if points is not None:
        inside = np.isfinite(points).all(-1) & (points > low).all(-1) & (points < high).all(-1)
        found |= {"points": numbers(points), "validity": packed(inside.astype(np.uint8))}
    return found


def measured(result: Reconstruction, chosen: np.ndarray, error: np.ndarray) -> list[dict[str, Any]]:
    """Colourings of a reconstruction: mean colours of the images, errors where the truth is known, and confidence.

    Args:
        result: the reconstruction.
        chosen: indices (T) of the instants that are shown.
        error: (T, V) [mm], NaN where it is not known.
    """
    layers: list[dict[str, Any]] = [{"name": "images", "values": packed(result.mean_colour(chosen))}]
    scales = [
        ("confidence", result.confidence[chosen], 1.0, ""),
        ("views that agree", result.views[chosen], MOST_VIEWS, ""),
    ]
    if np.isfinite(error).any():
        scales.insert(0, ("error", error, MOST_ERROR, "mm"))
    table = (255 * colormaps["viridis"](np.arange(256))[:, :3]).round().astype(int).tolist()
    for name, values, most, unit in scales:
        levels = np.clip(np.nan_to_num(255 * values / most), 0, 255).round().astype(np.uint8)
        layers.append({"name": name, "values": packed(levels), "table": table, "most": most, "unit": unit})
    return layers
