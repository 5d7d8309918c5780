"""Test-time mirroring: what a detector says of an image and of its mirror image, put together."""

import math

import torch

from dkp.fields.field import EmbeddingField


def mirrored_average(field: EmbeddingField, mirrored: EmbeddingField) -> EmbeddingField:
    """Average a field with that of the mirrored images.

    The left hand of a mirrored image is a right one: the cells are flipped back, and x of the coordinates with them.
    Coordinates are weighted by 1 / scale², where the fields say how far they may be off.

    Args:
        field: of images (B, 3, H, W).
        mirrored: of the same images, flipped left to right. The surface is its own reflection in the plane x = 0.

    Returns:
        The average: probabilities of the foreground, coordinates, and the scale whose square has the mean weight.
    """
    reflection = field.coordinate.new_tensor([-1.0, 1.0, 1.0])[:, None, None]
    other = mirrored.coordinate.flip(-1) * reflection
    probability = (field.foreground_probability + mirrored.foreground_probability.flip(-1)) / 2
    foreground = torch.logit(probability, eps=1e-6)
    if field.log_scale is None or mirrored.log_scale is None:
        return EmbeddingField(foreground, (field.coordinate + other) / 2, field.stride)
    scales = torch.stack([field.log_scale, mirrored.log_scale.flip(-1)])
    weights = torch.softmax(-2 * scales, dim=0)
    coordinate = weights[0] * field.coordinate + weights[1] * other
    log_scale = (math.log(2) - torch.logsumexp(-2 * scales, dim=0)) / 2
    return EmbeddingField(foreground, coordinate, field.stride, log_scale)
