"""Backgrounds from photographs: perspective pictures out of panoramas that show all directions.

A panorama of a room or a street holds dozens of backgrounds, and photographers give many away for any use.
`Augmentation.backgrounds` takes the folder that `crop_panoramas` writes.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dkp.errors import InputError

GAMMA = 2.2
"""Of the pictures and of panoramas with 8 or 16 bits."""
FORMATS = (".exr", ".hdr", ".jpg", ".png")


def crop_panoramas(panoramas: str | Path, out: str | Path, *, count: int = 80, size: int = 192, seed: int = 0) -> None:
    """Cut pictures to put behind rendered subjects out of panoramas, the same for the same arguments.

    Args:
        panoramas: folder of equirectangular panoramas (twice as wide as high): .exr (needs the package OpenEXR), .hdr,
            .jpg or .png.
        out: folder, made where it is missing; files of the same names are replaced.
        count: number of pictures of each panorama.
        size: side of the square pictures [px].
        seed: of directions, fields of view and exposures.

    Raises:
        InputError: there is no panorama, one cannot be read or has other sides; count or size is too small.
    """
    if count < 1 or size < 32:
        raise InputError(f"count is {count} and size {size} where at least 1 and 32 are expected")
    files = sorted(file for file in Path(panoramas).glob("*") if file.suffix.lower() in FORMATS)
    if not files:
        raise InputError(f"{panoramas}: no panorama in it, expected files {', '.join(FORMATS)}")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for index, file in enumerate(files):
        panorama = read_panorama(file)
        for number in range(count):
            rng = np.random.default_rng((seed, index, number))
            picture = perspective(panorama, rng, size)
            path = folder / f"{file.stem}-{number:03d}.jpg"
            cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])


def read_panorama(file: Path) -> NDArray[np.float32]:
    """Read a panorama (H, 2 H, 3) in linear light, exposed so that its geometric mean is a middle grey of 0.18.

    Raises:
        InputError: it cannot be read, or is not twice as wide as high.
    """
    if file.suffix.lower() == ".exr":
        image = _read_exr(file)
    else:
        found = cv2.imread(str(file), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if found is None:
            raise InputError(f"{file}: no picture can be read, expected an equirectangular panorama")
        image = found[..., ::-1].astype(np.float32)
        if found.dtype.kind == "u":
            image = (image / (2 ** (8 * found.itemsize) - 1)) ** GAMMA
    height, width = image.shape[:2]
    if width != 2 * height:
        raise InputError(f"{file}: {width} x {height} px, expected an equirectangular panorama, twice as wide as high")
    image = np.maximum(np.nan_to_num(image), 0)
    mean = np.exp(np.log(image.mean(-1) + 1e-6).mean())
    exposed: NDArray[np.float32] = np.minimum(image * (0.18 / mean), 1.5).astype(np.float32)
    return exposed


def _read_exr(file: Path) -> NDArray[np.float32]:
    try:
        import OpenEXR
    except ImportError as error:
        raise InputError(f"{file}: the package OpenEXR is missing: pip install OpenEXR") from error
    try:
        channels = OpenEXR.File(str(file)).channels()
        name = next(name for name in ("RGB", "RGBA", "R") if name in channels)
        apart = [channels[colour].pixels for colour in "RGB"] if name == "R" else []
        colours: NDArray[np.float32] = np.stack(apart, -1) if apart else channels[name].pixels[..., :3]
        return colours.astype(np.float32)
    except (RuntimeError, TypeError, KeyError, StopIteration) as error:
        raise InputError(f"{file}: no colours can be read ({error}), expected an OpenEXR panorama") from error


def perspective(panorama: NDArray[np.float32], rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Cut one picture (size, size, 3) out of a panorama, mostly looking a little down, with its own exposure."""
    half = np.tan(np.radians(rng.uniform(60, 110)) / 2)
    yaw, pitch, roll = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(-20, 50)), np.radians(rng.normal(0, 6))
    right, down = np.meshgrid(*[((np.arange(size) + 0.5) / size * 2 - 1) * half] * 2)
    rays = np.stack([right, down, np.ones_like(right)], -1)
    for angle, a, b in ((roll, 0, 1), (pitch, 1, 2), (yaw, 0, 2)):
        turned = rays.copy()
        turned[..., a] = np.cos(angle) * rays[..., a] + np.sin(angle) * rays[..., b]
        turned[..., b] = np.cos(angle) * rays[..., b] - np.sin(angle) * rays[..., a]
        rays = turned
    height, width = panorama.shape[:2]
    x = (np.arctan2(rays[..., 0], rays[..., 2]) / (2 * np.pi) + 0.5) * width - 0.5
    y = (0.5 + np.arctan2(rays[..., 1], np.hypot(rays[..., 0], rays[..., 2])) / np.pi) * height - 0.5
    around = np.concatenate([panorama[:, -4:], panorama, panorama[:, :4]], 1)
    light = cv2.remap(
        around, (x + 4).astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    picture = np.clip(light * 2 ** rng.normal(0, 0.5), 0, 1) ** (1 / GAMMA)
    sharper = 2 * picture - cv2.GaussianBlur(picture, (0, 0), 1.2)
    result: NDArray[np.uint8] = (np.clip(sharper, 0, 1) * 255).round().astype(np.uint8)
    return result
