"""A detector with what it takes to use it: how crops are cut, where the subject is, and its surface."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from dkp.captures.crops import CropMap, crop_affine, square_box
from dkp.fields import ChartAtlas, ChartField, EmbeddingField
from dkp.inference.prediction import Prediction
from dkp.inference.search import find_subject, whole_box
from dkp.surface import Surface

MARGIN = 0.15
"""Room around the subject on each side, as a share of its longer side: as `dkp import` leaves it."""

Network = Callable[[np.ndarray], Sequence[Tensor]]
"""Takes crops (B, S, S, 3) uint8 RGB; returns a detector's tensors, as `dkp.models.Detector.forward_tensors` has them,
in float32 on the CPU."""


class Predictor:
    """A detector that takes whole images of any size, made by `dkp.load`.

    Attributes:
        network: what runs: PyTorch or ONNX Runtime.
        size: side of the crops that it takes [px].
        surface: the canonical surface.
        charts: whether its fields are parts with charts.
        stride: pixels of a crop per cell.
        batch: most crops that it takes at once.
    """

    def __init__(
        self, network: Network, size: int, surface: Surface, charts: bool = False, stride: int = 2, batch: int = 16
    ) -> None:
        self.network = network
        self.size = size
        self.surface = surface
        self.charts = charts
        self.stride = stride
        self.batch = batch

    @cached_property
    def atlas(self) -> ChartAtlas | None:
        """The surface's chart atlas, for fields of charts."""
        return ChartAtlas.from_surface(self.surface) if self.charts else None

    def predict(self, images: Any, boxes: Any = None, *, margin: float = MARGIN) -> Any:
        """Predict the fields of subjects in images.

        Args:
            images: one image or a list of them, of any sizes: NumPy uint8 (h, w, 3) RGB or (h, w) grey, torch uint8
                (3, h, w), or PIL.
            boxes: of an image: (4,) x0 y0 x1 y1 [px] around its subject, or (P, 4) around several; None looks for one
                subject, by the detector's own foreground. For a list of images a list with one of these for each.
            margin: room on each side of a box, as a share of its longer side.

        Returns:
            For an image a `Prediction`, with boxes (P, 4) a list of P; for a list of images a list of these. Where no
            subject was found, the prediction is of the whole image and has no foreground.

        Raises:
            ValueError: an image or a box is none of these.
        """
        many = isinstance(images, list | tuple)
        frames = [as_image(image) for image in (images if many else [images])]
        given = boxes if many else [boxes]
        given = [None] * len(frames) if given is None else list(given)
        if len(given) != len(frames):
            raise ValueError(f"there are boxes for {len(given)} images where {len(frames)} images are given")
        wanted: list[tuple[np.ndarray, np.ndarray]] = []
        shapes: list[int | None] = []
        for frame, box in zip(frames, given, strict=True):
            if box is None:
                found = self.find(frame, margin)
                squares = [whole_box(frame) if found is None else found]
            else:
                squares = [square_box(one, margin) for one in as_boxes(box)]
            shapes.append(None if box is None or np.ndim(box) == 1 else len(squares))
            wanted += [(frame, square) for square in squares]
        predictions = iter(self.crops(wanted))
        results = [
            next(predictions) if count is None else [next(predictions) for _ in range(count)] for count in shapes
        ]
        return results if many else results[0]

    def crops(self, wanted: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Prediction]:
        """Predict the fields of squares (4,) [px] of images (h, w, 3) uint8, at most `batch` of them at once."""
        found = []
        for start in range(0, len(wanted), self.batch):
            some = wanted[start : start + self.batch]
            cut = np.stack([cut_crop(image, box, self.size) for image, box in some])
            first, second, *scale = self.network(cut)
            for index, (image, box) in enumerate(some):
                part = slice(index, index + 1)
                field: EmbeddingField | ChartField = (
                    ChartField(first[part], second[part], self.stride)
                    if self.charts
                    else EmbeddingField(first[part], second[part], self.stride, *(one[part] for one in scale))
                )
                size = (image.shape[1], image.shape[0])
                found.append(Prediction.of_field(field, box, size, self.surface, self.atlas))
        return found

    def find(self, image: np.ndarray, margin: float = MARGIN) -> np.ndarray | None:
        """Look for one subject, see `dkp.inference.search.find_subject`.

        Args:
            image: (h, w, 3) uint8 RGB.
            margin: room around the subject.

        Returns:
            (4,) x0 y0 x1 y1 [px], square with the margin; None where there is none.
        """
        found = find_subject(lambda boxes: self.crops([(image, box) for box in boxes]), image, margin)
        return None if found is None else found.box


def cut_crop(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Cut the square (4,) [px] of an image as a crop (size, size, 3); black where the image does not reach."""
    return CropMap.create(None, crop_affine(box, size), size).image(image)


def as_boxes(box: Any) -> np.ndarray:
    """Return boxes (4,) or (P, 4) as (P, 4).

    Raises:
        ValueError: they have another shape, a number that is not finite, or no extent.
    """
    boxes = np.asarray(box, np.float64)
    if boxes.shape[-1:] != (4,) or boxes.ndim > 2:
        raise ValueError(f"boxes have shape {boxes.shape} where (4,) or (P, 4) is expected")
    boxes = boxes.reshape(-1, 4)
    if not np.isfinite(boxes).all() or (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ValueError(f"boxes are {boxes.tolist()} where x0 < x1 and y0 < y1 are expected")
    return boxes


def as_image(image: Any) -> np.ndarray:
    """Return an image of NumPy, torch or PIL as (h, w, 3) uint8 RGB.

    Raises:
        ValueError: it is none of these, or not of uint8.
    """
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        image = (image.movedim(0, -1) if image.ndim == 3 else image).numpy()
    elif hasattr(image, "convert"):
        image = np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image is {type(image).__name__} where an image of NumPy, torch or PIL is expected")
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"an image has shape {image.shape} and type {image.dtype} where (h, w, 3), for torch (3, h, w), and uint8 "
            "are expected"
        )
    return np.ascontiguousarray(image)
