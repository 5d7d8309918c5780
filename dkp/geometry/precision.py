"""Geometry runs in float32 or better, whatever autocast is on around it.

Under bfloat16 autocast a matrix product rounds a coordinate of 100 px to 0.5 px, so that exactly corresponding points
seem to lie more than a pixel off their epipolar lines. TF32, which accelerators use for float32 products when told to
trade precision for speed, does nearly as much harm, so the small products here are written as sums.
"""

from collections.abc import Callable
from functools import reduce, wraps
from operator import add
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def full_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function so that its body runs with autocast off on CPU and CUDA."""

    @wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*args, **kwargs)

    return wrapped


def promote(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Bring tensors to their common floating type, float32 at least (integers and half precision become float32)."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


def multiply(matrix: Tensor, vectors: Tensor) -> Tensor:
    """Matrix times vectors in full precision.

    Args:
        matrix: (..., M, D).
        vectors: (..., N, D).

    Returns:
        (..., N, M).
    """
    terms = zip(vectors.split(1, -1), matrix.unsqueeze(-3).unbind(-1), strict=True)
    return reduce(add, (vector * column for vector, column in terms))
