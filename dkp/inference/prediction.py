"""The field of one subject, placed in its image: lookups at any pixel, pictures of the image's size, and its file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from dkp.captures.crops import square_box
from dkp.errors import InputError
from dkp.fields import ChartAtlas, ChartField, EmbeddingField
from dkp.files import whole_file
from dkp.surface import Surface

THRESHOLD = 0.5
"""Foreground probability from which a cell or a pixel shows the surface."""

REACH = 0.1
"""Cells that are further from each other on the surface than this share of its largest side are not mixed: one of them
shows an arm, the other what is behind it."""

PIECE = 0.05
"""Separate pieces of the foreground that are smaller than this share of the largest one do not count for its box."""

STORED = ("box", "foreground", "coordinate", "part", "uv", "vertex")


@dataclass(frozen=True)
class SurfacePoints:
    """What a field says of N pixels.

    Attributes:
        foreground: (N,) probability in [0, 1] that the pixel shows the surface; NaN outside of the image.
        coordinate: (N, 3) rest-pose position on the canonical surface [m]; NaN on the background.
        vertex: (N,) int32, nearest vertex of the surface; -1 on the background.
        part: (N,) int16, 1..K; 0 on the background.
        uv: (N, 2) chart coordinates in [0, 1]; 0 on the background.
    """

    foreground: np.ndarray
    coordinate: np.ndarray
    vertex: np.ndarray
    part: np.ndarray
    uv: np.ndarray


@dataclass(eq=False, repr=False)
class Prediction:
    """What a detector says of one subject in one image.

    Pixels are (x, y) of the whole image with centres at integer + 0.5; H and W below are cells of the field.

    Attributes:
        box: (4,) x0 y0 x1 y1 [px], the square of the image that the field covers.
        foreground: (H, W) probability that the cell shows the surface.
        coordinate: (H, W, 3) rest-pose position on the surface [m].
        image_size: (width, height) of the image [px].
        surface: the canonical surface.
        error: (H, W) distance by which the detector expects its coordinate to be off [m]; None where it does not say.
        own_charts: part (H, W) and uv (H, W, 2) of every cell, as a field of charts has them; None looks them up where
            they are asked for.
    """

    box: np.ndarray
    foreground: np.ndarray
    coordinate: np.ndarray
    image_size: tuple[int, int]
    surface: Surface
    error: np.ndarray | None = None
    own_charts: tuple[np.ndarray, np.ndarray] | None = None

    def __post_init__(self) -> None:
        self.box = np.asarray(self.box, np.float64)
        self.foreground = np.asarray(self.foreground, np.float32)
        self.coordinate = np.asarray(self.coordinate, np.float32)

    def __repr__(self) -> str:
        box = ", ".join(f"{value:.0f}" for value in self.box)
        return f"Prediction(box=[{box}], confidence={self.confidence:.2f}, surface={self.surface.name!r})"

    @classmethod
    def of_field(
        cls,
        field: EmbeddingField | ChartField,
        box: np.ndarray,
        image_size: tuple[int, int],
        surface: Surface,
        atlas: ChartAtlas | None = None,
    ) -> Prediction:
        """Place the first field of a batch in its image.

        Args:
            field: of one crop, B = 1.
            box: (4,) x0 y0 x1 y1 [px] of the crop in the image.
            image_size: (width, height) of the image [px].
            surface: the canonical surface.
            atlas: of the surface, for a field of charts.
        """
        foreground = field.foreground_probability[0].numpy()
        coordinate = field.coordinates(atlas)[0].movedim(0, -1).numpy()
        charts = error = None
        if isinstance(field, EmbeddingField) and field.log_scale is not None:
            error = field.log_scale[0].exp().norm(dim=0).numpy()
        if isinstance(field, ChartField):
            part = field.part[0]
            uv = field.uv[0].gather(0, (part - 1)[None, None].expand(1, 2, -1, -1))[0].movedim(0, -1)
            charts = part.numpy(), uv.numpy()
        return cls(box, foreground, coordinate, image_size, surface, error, charts)

    @property
    def inside(self) -> np.ndarray:
        """(H, W) bool, cells that show the surface."""
        return self.foreground > THRESHOLD

    @property
    def confidence(self) -> float:
        """Mean foreground probability of the cells that show the surface; 0 where none does."""
        return float(self.foreground[self.inside].mean()) if self.inside.any() else 0.0

    @property
    def doubt(self) -> float:
        """How unsure the detector is of the foreground, 0 or more.

        It is the median error that it expects as a share of the surface's largest side; of a detector that expects
        none, a fifth of what the confidence lacks of one.
        """
        if not self.inside.any():
            return 1.0
        if self.error is None:
            return (1 - self.confidence) / 5
        return float(np.median(self.error[self.inside]) / self.surface.extent)

    @property
    def field(self) -> EmbeddingField:
        """The field as dkp's tensors, B = 1: for `dkp.reconstruction` and the losses."""
        foreground = torch.from_numpy(self.foreground).clamp(1e-6, 1 - 1e-6).logit()[None]
        cell = (self.box[2] - self.box[0]) / self.foreground.shape[1]
        return EmbeddingField(foreground, torch.from_numpy(self.coordinate).movedim(-1, 0)[None], max(1, round(cell)))

    @cached_property
    def charts(self) -> tuple[np.ndarray, np.ndarray]:
        """Part (H, W) int16, 0 on the background, and chart coordinates uv (H, W, 2) of every cell."""
        part, uv = np.zeros(self.foreground.shape, np.int16), np.zeros((*self.foreground.shape, 2), np.float32)
        if self.own_charts is not None:
            part[self.inside], uv[self.inside] = self.own_charts[0][self.inside], self.own_charts[1][self.inside]
        elif self.inside.any():
            face, barycentric, _ = self.surface.locate(self.coordinate[self.inside])
            part[self.inside], uv[self.inside] = self.surface.charts(face, barycentric)
        return part, uv

    @cached_property
    def cell_vertices(self) -> np.ndarray:
        """(H, W) int32, nearest vertex of every cell's coordinate; -1 on the background."""
        return self._nearest(self.inside, self.coordinate)

    def at(self, pixels: Any) -> SurfacePoints:
        """Look pixels up, between cells by interpolation.

        Args:
            pixels: (N, 2) or (2,) x, y [px] of the whole image, also outside of the box, where there is background.

        Returns:
            Foreground, coordinate, vertex, part and chart coordinates of each. Outside of the image, 0 to its width and
            height, nothing is known: there the foreground is NaN, and the rest as on the background.

        Raises:
            ValueError: the pixels have another shape.
        """
        pixels = np.asarray(pixels, np.float64)
        if pixels.shape[-1:] != (2,) or pixels.ndim > 2:
            raise ValueError(f"pixels have shape {pixels.shape} where (N, 2) or (2,) is expected")
        pixels = pixels.reshape(-1, 2)
        known = ((pixels >= 0) & (pixels <= self.image_size)).all(1)
        pixels = np.where(known[:, None], pixels, 0.0)
        rows, columns, share = self._neighbours(pixels)
        chance = share * self.foreground[rows, columns]
        foreground = chance.sum(1)
        foreground[((pixels < self.box[:2]) | (pixels > self.box[2:])).any(1)] = 0
        foreground[~known] = np.nan
        inside = foreground > THRESHOLD
        coordinate = np.full((len(pixels), 3), np.nan)
        coordinate[inside] = self._mixed(rows[inside], columns[inside], chance[inside])
        part, uv = self._mixed_charts(rows, columns, chance, inside)
        return SurfacePoints(foreground, coordinate, self._nearest(inside, coordinate), part, uv)

    def vertices(self) -> np.ndarray:
        """Return (h, w) int32 of the image's size: the nearest vertex of the surface, -1 on the background."""
        vertex = np.full(self.image_size[::-1], -1, np.int32)
        for rows, columns, pixels in self._strips():
            vertex[rows, columns] = self.at(pixels).vertex
        return vertex

    def iuv(self) -> np.ndarray:
        """Return (h, w, 3) uint8 of the image's size in DensePose's encoding.

        Channel 0 is the part 1..K, 0 on the background; channel 1 is U and channel 2 is V, times 255.
        """
        iuv = np.zeros((*self.image_size[::-1], 3), np.uint8)
        for rows, columns, pixels in self._strips():
            numbers, lines, share = self._neighbours(pixels)
            chance = share * self.foreground[numbers, lines]
            part, uv = self._mixed_charts(numbers, lines, chance, chance.sum(1) > THRESHOLD)
            iuv[rows, columns, 0] = part
            iuv[rows, columns, 1:] = np.rint(255 * uv)
        return iuv

    def subject_box(self) -> np.ndarray | None:
        """Return the box (4,) x0 y0 x1 y1 [px] around the foreground; None where there is none.

        Small separate pieces do not count, nor do those that reach in from the edge of the field: other people.
        """
        count, pieces, statistics, _ = cv2.connectedComponentsWithStats(self.inside.astype(np.uint8))
        if count < 2:
            return None
        area = statistics[1:, cv2.CC_STAT_AREA]
        edge = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
        alone = ~np.isin(np.arange(1, count), edge) & (area >= PIECE * area.max())
        alone[area.argmax()] = True
        kept = np.isin(pieces, 1 + np.flatnonzero(alone))
        rows, columns = np.nonzero(kept)
        low = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
        cells = np.concatenate(low) / np.tile(self.foreground.shape[::-1], 2)
        return np.asarray(np.tile(self.box[:2], 2) + cells * np.tile(self.box[2:] - self.box[:2], 2))

    def next_box(self, margin: float) -> np.ndarray | None:
        """Return the square (4,) [px] to look at next: around the foreground, with room of `margin` on each side."""
        box = self.subject_box()
        return None if box is None else square_box(box, margin)

    def _cells(self, pixels: np.ndarray) -> np.ndarray:
        """Where pixels (N, 2) of the image lie among the cells, whose centres are whole numbers."""
        size = np.array(self.foreground.shape[::-1])
        return np.asarray((pixels - self.box[:2]) / (self.box[2:] - self.box[:2]) * size - 0.5)

    def _neighbours(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows (N, 4) and columns (N, 4) of the cells around each pixel, and their bilinear shares (N, 4)."""
        height, width = self.foreground.shape
        place = self._cells(pixels)
        low = np.floor(place).astype(int)
        x, y = (place - low).T
        share = np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], 1)
        columns = (low[:, :1] + [0, 1, 0, 1]).clip(0, width - 1)
        rows = (low[:, 1:] + [0, 0, 1, 1]).clip(0, height - 1)
        return rows, columns, share

    def _mixed(self, rows: np.ndarray, columns: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Coordinates (N, 3) between cells: of those that are near the likeliest one on the surface."""
        coordinate = self.coordinate[rows, columns].astype(np.float64)
        anchor = np.take_along_axis(coordinate, chance.argmax(1)[:, None, None], 1)
        near = np.linalg.norm(coordinate - anchor, axis=2) < REACH * self.surface.extent
        share = chance * near
        return np.asarray(np.einsum("nk,nki->ni", share / share.sum(1, keepdims=True), coordinate))

    def _mixed_charts(
        self, rows: np.ndarray, columns: np.ndarray, chance: np.ndarray, inside: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Part (N,) and uv (N, 2) between cells: the likeliest part, and where its cells are in its chart."""
        parts, places = self.charts
        part, uv = np.zeros(len(rows), np.int16), np.zeros((len(rows), 2), np.float32)
        if not inside.any():
            return part, uv
        rows, columns = rows[inside], columns[inside]
        found = parts[rows, columns]
        chance = np.where(found > 0, chance[inside], 0)
        votes = np.einsum("nk,nkj->nj", chance, found[:, :, None] == found[:, None, :])
        part[inside] = np.take_along_axis(found, votes.argmax(1)[:, None], 1)[:, 0]
        share = chance * (found == part[inside][:, None]) + 1e-12
        uv[inside] = np.einsum("nk,nki->ni", share / share.sum(1, keepdims=True), places[rows, columns])
        return part, uv

    def _nearest(self, inside: np.ndarray, coordinate: np.ndarray) -> np.ndarray:
        vertex = np.full(inside.shape, -1, np.int32)
        if inside.any():
            vertex[inside] = self.surface.nearest_vertex(coordinate[inside])
        return vertex

    def _strips(self, rows: int = 64) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Rows, columns and centres (N, 2) of the image's pixels that show the surface, some rows at once."""
        chance, (left, top) = self.enlarged(self.foreground)
        for start in range(0, len(chance), rows):
            row, column = np.nonzero(chance[start : start + rows] > THRESHOLD)
            row, column = row + start + top, column + left
            yield row, column, np.stack([column, row], 1) + 0.5

    def enlarged(self, values: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """Interpolate values of cells (H, W, ...) bilinearly at the pixels of the image in the box.

        Returns:
            (h, w, ...) float32, and the (column, row) of its first pixel in the image.
        """
        (x0, y0), (x1, y1) = (
            np.clip(np.round(corner), 0, self.image_size).astype(int) for corner in (self.box[:2], self.box[2:])
        )
        if x1 <= x0 or y1 <= y0:
            return np.zeros((0, 0, *values.shape[2:]), np.float32), (int(x0), int(y0))
        columns = self._cells(np.stack([np.arange(x0, x1) + 0.5, np.zeros(x1 - x0)], 1))[:, 0]
        rows = self._cells(np.stack([np.zeros(y1 - y0), np.arange(y0, y1) + 0.5], 1))[:, 1]
        x, y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
        values = np.ascontiguousarray(values, np.float32)
        return cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), (int(x0), int(y0))


def save_predictions(path: Path, people: Sequence[int], predictions: Sequence[Prediction]) -> None:
    """Write the predictions of one image as a plain npz file.

    Keys, with a leading axis of P people: "person" (P,), "box" (P, 4) [px], "confidence" (P,), "foreground" (P, H, W)
    float32, "coordinate" (P, H, W, 3) float32 [m], "part" (P, H, W) int16, "uv" (P, H, W, 2) float32, "vertex"
    (P, H, W) int32, where the detector says it "error" (P, H, W) float32 [m]; and "image_size" (2,) [px] and "surface",
    the name. Where nobody was found there is "person" only.

    Args:
        path: the file.
        people: number of each person.
        predictions: of each.
    """
    arrays: dict[str, Any] = {"person": np.array(people, np.int32)}
    if predictions:
        charts = [one.charts for one in predictions]
        arrays |= {
            "box": np.stack([one.box for one in predictions]),
            "confidence": np.array([one.confidence for one in predictions], np.float32),
            "foreground": np.stack([one.foreground for one in predictions]),
            "coordinate": np.stack([one.coordinate for one in predictions]),
            "part": np.stack([part for part, _ in charts]),
            "uv": np.stack([uv for _, uv in charts]),
            "vertex": np.stack([one.cell_vertices for one in predictions]),
            "image_size": np.array(predictions[0].image_size, np.int32),
            "surface": np.array(predictions[0].surface.name),
        }
        errors = [one.error for one in predictions if one.error is not None]
        if errors:
            arrays["error"] = np.stack(errors)
    with whole_file(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def load_predictions(path: Path, surface: Surface) -> dict[int, Prediction]:
    """Read what `save_predictions` wrote: number of a person -> prediction.

    Raises:
        InputError: it is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
        people = arrays["person"].tolist()
        found = {}
        for index, person in enumerate(people):
            box, foreground, coordinate, part, uv, vertex = (arrays[key][index] for key in STORED)
            size = (int(arrays["image_size"][0]), int(arrays["image_size"][1]))
            error = arrays["error"][index] if "error" in arrays else None
            found[person] = Prediction(box, foreground, coordinate, size, surface, error)
            vars(found[person]).update(charts=(part, uv), cell_vertices=vertex)
    except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}), expected the predictions of an image") from error
    return found
