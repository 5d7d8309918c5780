"""Draw the figures of README and docs: python docs/figures.py [JOB [PERSON [DOG]]], see `make figures`.

JOB, PERSON and DOG are folders of `dkp train` on rendered people, the real person and rendered dogs; without them their
figures stay.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from dkp.bench.report import plot_loss, plot_step
from dkp.captures import Capture, View
from dkp.fields import mirrored_average
from dkp.geometry import Camera, epipolar_lines, fundamental_matrix, pairwise_epipolar_distance
from dkp.models import Detector
from dkp.pipeline.figure import draw_figure
from dkp.pipeline.reconstruct import reconstruct
from dkp.pipeline.report import opened
from dkp.reconstruction import Reconstruction, SurfaceRegistration
from dkp.surface import Surface
from dkp.synthetic import synthesize
from dkp.synthetic.rasteriser import interpolate, rasterise
from dkp.viz import CoordinateColours, FieldRow, draw_field, draw_template, field_figure, save_figure
from dkp.weights import card, load

DOCS = Path(__file__).parent
SIDE = 256
"""Of the rendered views in the figures of the concepts [px]."""
SIGMA = 0.1
"""Width of the match in them [m]: where the recipes for people begin."""


def small(path: Path) -> None:
    """Write a figure again with 256 colours, a third of the bytes."""
    figure, colours = Image.open(path).convert("RGB"), Image.new("P", (1, 1))
    colours.putpalette([*(figure.quantize(255).getpalette() or [])[: 3 * 255], 255, 255, 255])
    few = figure.quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG)
    few.paste(255, mask=Image.fromarray((np.asarray(figure) == 255).all(-1)))  # white stays white
    few.save(path, optimize=True)


def predicted(detector: Detector, images: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates and foreground of views (V, 3, h, w), averaged with the mirrored views', as tested."""
    crops = torch.nn.functional.interpolate(images, (size, size), mode="area")
    with torch.no_grad():
        field = mirrored_average(detector(crops), detector(crops.flip(-1)))
    return field.coordinates(None), field.foreground_probability


def posed(title: str, vertices: np.ndarray, surface: Surface, cameras: list[Camera]) -> FieldRow:
    """Return the field that a posed surface (V, 3) [m] shows to cameras, of three cells a pixel along each side."""
    fields = []
    for camera in cameras:
        width, height = (3 * round(length) for length in camera.image_size.tolist())
        seen = vertices @ camera.rotation.double().numpy().T + camera.translation.double().numpy()
        intrinsics = np.diag([3.0, 3.0, 1.0]) @ camera.intrinsics.double().numpy()
        raster = rasterise(seen, surface.faces, intrinsics, width, height)
        shown = raster.face >= 0
        coordinate = np.zeros((height, width, 3))
        coordinate[shown] = interpolate(surface.vertices, surface.faces, raster.face[shown], raster.barycentric[shown])
        fields.append((coordinate.transpose(2, 0, 1), shown))
    coordinates, foregrounds = zip(*fields, strict=True)
    return FieldRow(title, np.stack(coordinates), np.stack(foregrounds))


def opened_views(capture: Capture, views: list[View]) -> tuple[torch.Tensor, list[Camera]]:
    """Images (V, 3, h, w) in [0, 1] and cameras of some views."""
    images = np.stack([capture.image(view) for view in views])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, [capture.camera(view) for view in views]


def draw_person(job: Path, path: Path) -> None:
    """One test instant of a real capture in all views: teacher, adapted detector and reconstructed surface."""
    runs = {run.name: run for run in opened(job)}
    test = runs["adapted"].options("data")["test"]
    with tempfile.TemporaryDirectory() as folder:
        reconstruct(test, f"{folder}/surface", str(runs["adapted"].folder), workers=1)
        found = Reconstruction.open(f"{folder}/surface")
    middle = len(found) // 2
    capture = Capture.open(test.partition("#")[0])
    images, cameras = opened_views(capture, list(capture.frames[str(found.frame[middle])].views))
    rows = []
    for name in ("teacher", "adapted"):
        run = runs[name]
        detector = Detector(**{**run.options("detector"), "weights": str(run.weights())}).eval()
        rows.append(FieldRow(name, *predicted(detector, images, run.options("data")["size"])))
    rows.append(posed("reconstructed", found.vertices[middle], capture.surface, cameras))
    titles = [f"camera {number}" for number in range(1, len(cameras) + 1)]
    large = torch.nn.functional.interpolate(images, scale_factor=3, mode="bicubic").clamp(0, 1)
    field_figure(large, rows, capture.surface, view_titles=titles, path=path)
    small(path)


def draw_concepts() -> None:
    """Draw a rendered person in four views, and what `human-small` says of it: field, matching, registration."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"domain": "target", "seed": 7, "splits": {"all": 1.0}}
        capture = synthesize(f"{folder}/people", subjects=1, frames=1, cameras=4, size=SIDE, **options)
        (instant,) = capture.instants()
        images, cameras = opened_views(capture, list(instant.views))
        truth = capture.truth(instant.frame)
    surface = capture.surface
    coordinate, foreground = predicted(load("human-small"), images, card("human-small").size)
    draw_fields(images[0], coordinate[0], foreground[0], surface, DOCS / "concepts-field.png")
    draw_matching(images, coordinate, foreground, cameras, surface, DOCS / "concepts-matching.png")
    found = SurfaceRegistration(surface)(coordinate[None], foreground[None], Camera.stack(cameras)[None])
    rows = [FieldRow("field", coordinate, foreground)]
    rows += [posed("registered", found.vertices[0].numpy(), surface, cameras), posed("truth", truth, surface, cameras)]
    titles = [f"camera {number}" for number in range(1, 5)]
    field_figure(images, rows, surface, view_titles=titles, path=DOCS / "concepts-registration.png")
    small(DOCS / "concepts-registration.png")


def draw_fields(
    image: torch.Tensor, coordinate: torch.Tensor, foreground: torch.Tensor, surface: Surface, path: Path
) -> None:
    """Draw an image, its foreground, its coordinates, and the surface that they are points of."""
    figure, (first, second, third, fourth) = panels("image", "foreground", "surface coordinate", "canonical surface")
    first.imshow(image.permute(1, 2, 0))
    drawn = second.imshow(
        foreground, cmap="viridis", vmin=0, vmax=1, extent=(0, SIDE, SIDE, 0), interpolation="bilinear"
    )
    scale_below(figure, second, drawn, "probability")
    colours = CoordinateColours(surface)
    draw_field(third, image.permute(1, 2, 0).numpy(), coordinate.numpy(), foreground.numpy(), colours)
    draw_template(fourth, surface, colours)
    save_figure(figure, path)
    small(path)


def draw_matching(
    images: torch.Tensor,
    coordinate: torch.Tensor,
    foreground: torch.Tensor,
    cameras: list[Camera],
    surface: Surface,
    path: Path,
) -> None:
    """Draw a pixel of the first view: how well the second view's pixels match it, how far they are from its line."""
    rows, columns = (foreground[0] > 0.5).nonzero(as_tuple=True)
    wanted = torch.from_numpy(surface.joints["left_knee"]).float()
    cell = (coordinate[0, :, rows, columns] - wanted[:, None]).norm(dim=0).argmin()
    row, column = rows[cell], columns[cell]
    cells = SIDE / foreground.shape[-1]
    pixel = (torch.stack([column, row]) + 0.5) * cells
    fundamental = fundamental_matrix(cameras[0], cameras[1])
    line = epipolar_lines(pixel[None].to(fundamental), fundamental)[0].numpy()
    y, x = torch.meshgrid(*[(torch.arange(foreground.shape[-1]) + 0.5) * cells] * 2, indexing="ij")
    others = torch.stack([x, y], -1).reshape(-1, 2).to(fundamental)
    distance = pairwise_epipolar_distance(pixel[None].to(fundamental), others, fundamental)[0].reshape(x.shape)
    gap = (coordinate[1] - coordinate[0, :, row, column, None, None]).square().sum(0)
    match = torch.exp(-gap / (2 * SIGMA**2)) * (foreground[1] > 0.5)
    expected = float((match * distance).sum() / match.sum()) * 128 / SIDE
    print(f"{DOCS.name}/{path.name}: the expected epipolar distance is {expected:.1f} px of a 128 px crop")
    figure, axes = panels("view 1: one pixel", "view 2: its matchability", "view 2: distance from its epipolar line")
    axes[0].imshow(images[0].permute(1, 2, 0))
    axes[0].plot(*pixel, "o", markersize=11, markerfacecolor="none", markeredgecolor="white", markeredgewidth=3.4)
    axes[0].plot(*pixel, "o", markersize=11, markerfacecolor="none", markeredgecolor="#d55e00", markeredgewidth=2)
    ends = np.array([0, SIDE])
    scales = (("viridis", 1, "matchability"), ("cividis_r", 20, "px of a 128 px crop"))
    for one, layer, (colours, most, label) in zip(axes[1:], (match, distance * 128 / SIDE), scales, strict=True):
        one.imshow(images[1].mean(0) * 0.5 + 0.5, cmap="gray", vmin=0, vmax=1)
        values = np.ma.masked_where((foreground[1] <= 0.5).numpy(), layer.numpy())
        drawn = one.imshow(values, cmap=colours, vmin=0, vmax=most, extent=(0, SIDE, SIDE, 0))
        scale_below(figure, one, drawn, label)
        for colour, width in (("white", 3), ("#d55e00", 1.6)):
            one.plot(ends, -(line[0] * ends + line[2]) / line[1], color=colour, linewidth=width)
    for one in axes:
        one.set_xlim(0, SIDE)
        one.set_ylim(SIDE, 0)
    save_figure(figure, path)
    small(path)


def panels(*titles: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with a row of bare squares, and room below for scales."""
    count, side, top = len(titles), 2.6, 3.4
    figure = Figure(figsize=(side * count, top), dpi=160, facecolor="white")
    axes = []
    for number, title in enumerate(titles):
        box = ((number + 0.02) / count, 0.55 / top, 0.96 / count, 0.96 * side / top)
        axes.append(figure.add_axes(box, xticks=[], yticks=[], frame_on=False))
        axes[-1].set_title(title, fontsize=9)
    return figure, axes


def scale_below(figure: Figure, axes: Axes, drawn: AxesImage, label: str) -> None:
    """Draw the scale of an image below it."""
    left, bottom, width, _ = axes.get_position().bounds
    below = figure.add_axes((left + 0.05 * width, bottom - 0.05, 0.9 * width, 0.03))
    bar = figure.colorbar(drawn, cax=below, orientation="horizontal")
    bar.set_label(label, fontsize=8, labelpad=1)
    bar.ax.tick_params(labelsize=8, pad=1)


if __name__ == "__main__":
    speed = json.loads((DOCS / "results/speed/bench.json").read_text())
    plot_loss(speed["loss"], DOCS / "results/speed/loss.png")
    plot_step(speed["pipeline"], DOCS / "results/speed/step.png")
    draw_concepts()
    folders = [Path(word) for word in sys.argv[1:]]
    for job, name in zip(folders[::2], ("main-job.png", "dogs.png"), strict=False):
        picture = DOCS / name
        picture.write_bytes(draw_figure(job).read_bytes())
        small(picture)
    if len(folders) > 1:
        draw_person(folders[1], DOCS / "person.png")
