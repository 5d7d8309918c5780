"""Image and mask files: PNG out, anything OpenCV decodes in; arrays are RGB and exactly as stored."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import numpy as np

from dkp.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

OnBad = Literal["skip", "raise"]
"""What is done with a file that cannot be decoded: it is left out, or it ends the work."""

# Level 1 halves the writing time of the default level and costs a tenth in size (128 px renders).
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def read_image(path: Path, size: tuple[int, int] | None = None, depth: int | None = None) -> np.ndarray:
    """Read an image, grey or in colour, of 8 or 16 bits; an alpha channel is dropped.

    Args:
        path: file.
        size: the (width, height) that is expected [px]; None accepts any.
        depth: how many of 16 bits are used: 8, 12 or 16; None looks at the image's largest value.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    image = _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, "an image", size)
    if image.dtype != np.uint8:
        image = np.minimum(image >> (_bits(image) if depth is None else depth) - 8, 255).astype(np.uint8)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def image_kind(path: Path) -> tuple[int, int, int]:
    """Return an image's width and height [px], and how many bits its values need: 8, 12 or 16."""
    image = _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, "an image", None)
    return image.shape[1], image.shape[0], _bits(image)


def _bits(image: np.ndarray) -> int:
    """8, 12 or 16: cameras of 12 bits write files of 16 whose upper bits are empty."""
    largest = int(image.max()) if image.dtype != np.uint8 else 0
    return 8 if largest < 256 else 12 if largest < 4096 else 16


def read_mask(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a mask as (H, W) bool.

    Foreground is what is brighter than half of the range (above 127), in any channel; in an image of 0 and 1 only,
    what is 1; in an image whose alpha channel varies, what is opaque.
    """
    levels = mask_levels(path, size)
    return levels > (0 if levels.max() <= 1 else 127)


def mask_levels(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read the grey levels of a mask: (H, W) uint8, from the alpha channel where that varies."""
    image = _decode(path, cv2.IMREAD_UNCHANGED, "a mask", size)
    if image.ndim == 3:
        colour, alpha = image[..., :3].max(axis=2), image[..., 3:]
        image = alpha[..., 0] if alpha.size and alpha.min() < alpha.max() else colour
    if image.dtype == np.uint16 and image.max() > 255:  # else of 8 bits in a file of 16
        image = (image >> 8).astype(np.uint8)
    return image.astype(np.uint8, copy=False)


def _decode(path: Path, flags: int, kind: str, size: tuple[int, int] | None) -> np.ndarray:
    try:
        data = np.fromfile(path, np.uint8)
        image = cv2.imdecode(data, flags) if data.size else None
    except (OSError, cv2.error) as error:
        raise InputError(f"{path} cannot be read ({error}), expected {kind}") from error
    if image is None:
        raise InputError(f"{path} cannot be decoded, expected {kind} (PNG or JPEG)")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path} holds values of type {image.dtype}, expected {kind} of 8 or 16 bits")
    if size is not None and image.shape[:2] != (size[1], size[0]):
        raise InputError(f"{path} is {image.shape[1]}x{image.shape[0]}, expected {kind} of {size[0]}x{size[1]} pixels")
    return image


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 RGB image as PNG."""
    _encode(path, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write an (H, W) bool mask as a PNG of 0 and 255."""
    _encode(path, mask.astype(np.uint8) * 255)


def _encode(path: Path, image: np.ndarray) -> None:
    done, data = cv2.imencode(".png", image, _PNG)
    if not done:
        raise OSError(f"{path} could not be encoded as PNG")
    path.write_bytes(data.tobytes())


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], threads: int | None = None) -> list[Result]:
    """Apply ``function`` to every item with a pool of threads; keep the order.

    Args:
        function: decodes one file; OpenCV and zlib release the interpreter lock meanwhile.
        items: what to decode.
        threads: size of the pool; None takes one per core, at most 8; 0 or 1 works without a pool.
    """
    if threads is None:
        threads = min(8, os.cpu_count() or 1)
    if threads <= 1 or len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))
