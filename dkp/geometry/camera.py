"""Calibrated cameras, batched over any leading shape, and the image transforms that act on them.

Conventions: ``x_cam = R @ x_world + t``; pixels are (x, y) with pixel centres at integer + 0.5; world unit metres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dkp.geometry.lens import apply_lens, undo_lens
from dkp.geometry.precision import full_precision, multiply, promote

_FIELDS = {"intrinsics": (3, 3), "rotation": (3, 3), "translation": (3,), "distortion": (5,), "image_size": (2,)}


class Camera:
    """One camera or any batch of cameras; treat it as immutable, every method returns a new one.

    The lens is Brown and Conrady's model in the order of OpenCV (k1, k2, p1, p2, k3). It acts on normalised
    coordinates, before the intrinsics: so a crop, resize, flip or rotation of the image changes the intrinsics only.

    Attributes:
        intrinsics: (..., 3, 3) [px], last row (0, 0, 1); fx is negative in a mirrored view.
        rotation: (..., 3, 3), world to camera.
        translation: (..., 3) [m].
        distortion: (..., 5), dimensionless.
        image_size: (..., 2) [px], width and height; zero where unknown.
    """

    def __init__(
        self, intrinsics: Tensor, rotation: Tensor, translation: Tensor, distortion: Tensor, image_size: Tensor
    ) -> None:
        """Hold the five tensors as they are; see `create` for defaults, broadcasting and checks."""
        self.intrinsics = intrinsics
        self.rotation = rotation
        self.translation = translation
        self.distortion = distortion
        self.image_size = image_size

    @classmethod
    def create(
        cls,
        intrinsics: Any,
        rotation: Any = None,
        translation: Any = None,
        distortion: Any = None,
        image_size: Any = None,
    ) -> Camera:
        """Make a camera from tensors, arrays or nested lists, broadcasting them to one batch shape and type.

        Args:
            intrinsics: (..., 3, 3) [px].
            rotation: (..., 3, 3), default the identity.
            translation: (..., 3) [m], default zero.
            distortion: (..., k) with 0, 4 or 5 coefficients k1 k2 p1 p2 (k3), default none.
            image_size: (..., 2) width and height [px], default unknown.

        Raises:
            ValueError: A shape does not fit.
        """
        given = torch.as_tensor(intrinsics)
        dtype = torch.promote_types(given.dtype, torch.float32)
        options: dict[str, Any] = {"dtype": dtype, "device": given.device}
        if distortion is not None:
            distortion = torch.as_tensor(distortion, **options)
            count = distortion.shape[-1] if distortion.ndim else -1
            if count not in (0, 4, 5):
                raise ValueError(f"distortion has shape {tuple(distortion.shape)}, expected 0, 4 or 5 coefficients")
            distortion = torch.nn.functional.pad(distortion, (0, 5 - count))
        values = {
            "intrinsics": given.to(dtype),
            "rotation": torch.eye(3, **options) if rotation is None else torch.as_tensor(rotation, **options),
            "translation": torch.zeros(3, **options)
            if translation is None
            else torch.as_tensor(translation, **options),
            "distortion": torch.zeros(5, **options) if distortion is None else distortion,
            "image_size": torch.zeros(2, **options) if image_size is None else torch.as_tensor(image_size, **options),
        }
        batches = []
        for key, value in values.items():
            own = _FIELDS[key]
            if tuple(value.shape[value.ndim - len(own) :]) != own:
                raise ValueError(f"{key} has shape {tuple(value.shape)}, expected (..., {', '.join(map(str, own))})")
            batches.append(value.shape[: value.ndim - len(own)])
        shape = torch.broadcast_shapes(*batches)
        return cls(**{key: value.expand(*shape, *_FIELDS[key]) for key, value in values.items()})

    @property
    def shape(self) -> torch.Size:
        """Batch shape, empty for a single camera."""
        return self.translation.shape[:-1]

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of every tensor."""
        return self.intrinsics.dtype

    @property
    def device(self) -> torch.device:
        """Device of every tensor."""
        return self.intrinsics.device

    def __len__(self) -> int:
        """Length of the first batch dimension."""
        if not self.shape:
            raise TypeError("a single camera has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Camera(shape={tuple(self.shape)}, dtype={self.dtype}, device={self.device})"

    def _map(self, function: Callable[[Tensor, int], Tensor]) -> Camera:
        """Apply ``function(tensor, number of own dimensions)`` to each tensor."""
        return Camera(**{key: function(getattr(self, key), len(own)) for key, own in _FIELDS.items()})

    def _replace(self, **changes: Tensor) -> Camera:
        return Camera(**{key: changes.get(key, getattr(self, key)) for key in _FIELDS})

    def __getitem__(self, index: Any) -> Camera:
        """Index the batch dimensions as a tensor's: integers, slices, masks, index tensors, ``None``, ``...``."""
        index = index if isinstance(index, tuple) else (index,)
        if not self.shape:
            raise IndexError("a single camera cannot be indexed")
        if not any(part is Ellipsis for part in index):
            index = (*index, Ellipsis)
        return self._map(lambda tensor, own: tensor[(*index, *(slice(None),) * own)])

    @staticmethod
    def stack(cameras: Sequence[Camera]) -> Camera:
        """Stack cameras of equal batch shape along a new first batch dimension."""
        if not cameras:
            raise ValueError("no camera to stack")
        return Camera(**{key: torch.stack([getattr(camera, key) for camera in cameras]) for key in _FIELDS})

    def reshape(self, *shape: int) -> Camera:
        """Reshape the batch dimensions; one of them may be -1."""
        if -1 in shape and self.translation.numel() == 0:
            raise ValueError("an empty batch cannot be reshaped to -1")
        sizes = torch.empty(self.shape, device="meta").reshape(shape).shape
        return self._map(lambda tensor, own: tensor.reshape(*sizes, *tensor.shape[tensor.ndim - own :]))

    def expand(self, *shape: int) -> Camera:
        """Broadcast the batch dimensions to a larger shape."""
        return self._map(lambda tensor, own: tensor.expand(*shape, *tensor.shape[tensor.ndim - own :]))

    def to(self, *args: Any, **kwargs: Any) -> Camera:
        """Move or convert every tensor, with the arguments of `torch.Tensor.to`."""
        return self._map(lambda tensor, own: tensor.to(*args, **kwargs))

    def pin_memory(self) -> Camera:
        """Copy every tensor to page-locked memory."""
        return self._map(lambda tensor, own: tensor.contiguous().pin_memory())

    @full_precision
    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Project world points.

        Pixels of points with ``depth <= 0`` are finite but meaningless: look at the depth. A lens polynomial that
        folds back maps points far outside the view into the image, as OpenCV's does.

        Args:
            points: (..., N, 3) [m].

        Returns:
            Pixels (..., N, 2) [px], with distortion, and depth (..., N) [m] along the optical axis.
        """
        points, intrinsics, rotation, translation = promote(points, self.intrinsics, self.rotation, self.translation)
        local = multiply(rotation, points) + translation.unsqueeze(-2)
        depth = local[..., 2]
        tiny = torch.finfo(depth.dtype).eps
        safe = torch.where(depth.abs() < tiny, torch.where(depth < 0, -tiny, tiny).to(depth), depth)
        return _apply_affine(intrinsics, self._distort(local[..., :2] / safe.unsqueeze(-1))), depth

    @full_precision
    def unproject(self, pixels: Tensor, depth: Tensor) -> Tensor:
        """World points at a depth along the optical axis.

        Args:
            pixels: (..., N, 2) [px], with distortion.
            depth: (..., N) [m].

        Returns:
            Points (..., N, 3) [m].
        """
        pixels, depth, rotation, translation = promote(pixels, depth, self.rotation, self.translation)
        rays = torch.nn.functional.pad(self._normalised(pixels), (0, 1), value=1.0)
        return multiply(rotation.mT, rays * depth.unsqueeze(-1) - translation.unsqueeze(-2))

    @full_precision
    def undistort(self, pixels: Tensor) -> Tensor:
        """Move pixels (..., N, 2) [px] to where the same camera without distortion sees them."""
        pixels, intrinsics = promote(pixels, self.intrinsics)
        return pixels if self._is_linear() else _apply_affine(intrinsics, self._normalised(pixels))

    @full_precision
    def distort(self, pixels: Tensor) -> Tensor:
        """Move pixels (..., N, 2) [px] of the camera without distortion to where this camera sees them."""
        pixels, intrinsics = promote(pixels, self.intrinsics)
        if self._is_linear():
            return pixels
        return _apply_affine(intrinsics, self._distort(_apply_affine(_invert_affine(intrinsics), pixels)))

    @full_precision
    def rays(self, pixels: Tensor) -> Tensor:
        """Return unit direction (..., N, 3), in world axes, of the ray through each pixel (..., N, 2) [px]."""
        pixels, rotation = promote(pixels, self.rotation)
        local = torch.nn.functional.pad(self._normalised(pixels), (0, 1), value=1.0)
        return multiply(rotation.mT, torch.nn.functional.normalize(local, dim=-1))

    def without_distortion(self) -> Camera:
        """Return the same camera with a perfect lens."""
        return self._replace(distortion=torch.zeros_like(self.distortion))

    @full_precision
    def centre(self) -> Tensor:
        """Optical centre in the world, (..., 3) [m]."""
        return -multiply(self.rotation.mT, self.translation.unsqueeze(-2)).squeeze(-2)

    def only(self, mask: Tensor) -> Camera:
        """Return the cameras where a mask (...) is on, and plain ones elsewhere.

        So what stands there does not matter. A plain camera is at the origin, with identity for intrinsics and rotation
        and no image size.
        """
        plain = {"intrinsics": torch.eye(3), "rotation": torch.eye(3)}
        values = {}
        for key, own in _FIELDS.items():
            value = getattr(self, key)
            given = mask.view(*mask.shape, *(1,) * len(own))
            values[key] = torch.where(given, value, plain.get(key, torch.zeros(())).to(value))
        return Camera(**values)

    def about(self, origin: Tensor) -> Camera:
        """Return the same cameras in a world whose origin is at a point (..., 3) [m] of this one."""
        return self._replace(translation=self.translation + multiply(self.rotation, origin.unsqueeze(-2)).squeeze(-2))

    @full_precision
    def viewing_direction(self) -> Tensor:
        """Return unit direction (..., 3) of the ray through the image's middle.

        Where the size is unknown it is the ray through the principal point. In a crop the two differ: the principal
        point may lie outside the image.
        """
        known = (self.image_size > 0).all(-1, keepdim=True)
        middle = torch.where(known, self.image_size / 2, self.intrinsics[..., :2, 2])
        return self.rays(middle.unsqueeze(-2)).squeeze(-2)

    def _is_linear(self) -> bool:
        return not self.distortion.requires_grad and not bool(self.distortion.any())

    def _distort(self, normalised: Tensor) -> Tensor:
        """Apply the lens to normalised coordinates (..., N, 2)."""
        if self._is_linear():
            return normalised
        return apply_lens(normalised, self.distortion.to(normalised.dtype))

    def _normalised(self, pixels: Tensor) -> Tensor:
        """Undistorted normalised coordinates (..., N, 2) of distorted pixels."""
        target = _apply_affine(_invert_affine(self.intrinsics.to(pixels.dtype)), pixels)
        if self._is_linear():
            return target
        return undo_lens(target, self.distortion.to(target.dtype))

    @full_precision
    def transform(self, matrix: Any, width: Any, height: Any) -> Camera:
        """Return the camera of the image after an affine map of its pixels.

        Args:
            matrix: (..., 3, 3) or (..., 2, 3), old pixels to new pixels (both with centres at integer + 0.5).
            width: Width of the new image [px].
            height: Height of the new image [px].

        Returns:
            The camera with ``matrix @ intrinsics`` and the new size; distortion and pose are untouched.
        """
        matrix = torch.as_tensor(matrix, dtype=self.dtype, device=self.device)
        if matrix.shape[-2] == 2:
            row = torch.tensor([[0.0, 0.0, 1.0]], dtype=self.dtype, device=self.device)
            matrix = torch.cat([matrix, row.expand(*matrix.shape[:-2], 1, 3)], -2)
        sides = [torch.as_tensor(side, dtype=self.dtype, device=self.device) for side in (width, height)]
        size = torch.stack(torch.broadcast_tensors(*sides), -1)
        product = multiply(matrix, self.intrinsics.mT).mT
        return Camera.create(product, self.rotation, self.translation, self.distortion, size)


def pixel_grid(
    height: int,
    width: int,
    stride: int = 1,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Input pixels at which the cells of an output grid sit.

    Returns:
        (height, width, 2) [px]: cell (row, column) sits at ((column + 0.5) stride, (row + 0.5) stride).
    """
    x = (torch.arange(width, device=device, dtype=dtype) + 0.5) * stride
    y = (torch.arange(height, device=device, dtype=dtype) + 0.5) * stride
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _affine(*entries: Tensor) -> Tensor:
    """Return the six entries of two rows, each (...), as an affine matrix (..., 3, 3)."""
    zero, one = torch.zeros_like(entries[0]), torch.ones_like(entries[0])
    rows = torch.stack(torch.broadcast_tensors(*entries, zero, zero, one), -1)
    return rows.unflatten(-1, (3, 3))


def _apply_affine(matrix: Tensor, points: Tensor) -> Tensor:
    """Apply an affine matrix (..., 3, 3) to points (..., N, 2)."""
    return multiply(matrix[..., :2, :2], points) + matrix[..., None, :2, 2]


def _invert_affine(matrix: Tensor) -> Tensor:
    """Inverse of affine matrices (..., 3, 3)."""
    a, b, c = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2]
    d, e, f = matrix[..., 1, 0], matrix[..., 1, 1], matrix[..., 1, 2]
    det = a * e - b * d
    return _affine(e / det, -b / det, (b * f - c * e) / det, -d / det, a / det, (c * d - a * f) / det)
