"""Test-time mirroring."""

import math

import pytest
import torch

from dkp.fields import EmbeddingField, mirrored_average

SIDES = torch.tensor([-1.0, 1.0, 1.0])[:, None, None]


def random_field(seed: int, scales: bool = True) -> EmbeddingField:
    generator = torch.Generator().manual_seed(seed)
    coordinate = torch.randn(2, 3, 4, 6, generator=generator)
    log_scale = torch.randn(2, 3, 4, 6, generator=generator) if scales else None
    return EmbeddingField(torch.randn(2, 4, 6, generator=generator), coordinate, 2, log_scale)


def flipped(field: EmbeddingField) -> EmbeddingField:
    """What an equivariant detector says of the mirrored images."""
    scale = None if field.log_scale is None else field.log_scale.flip(-1)
    return EmbeddingField(field.foreground.flip(-1), field.coordinate.flip(-1) * SIDES, field.stride, scale)


@pytest.mark.parametrize("scales", [True, False])
def test_an_equivariant_detector_is_left_as_it_is(scales):
    field = random_field(0, scales)
    average = mirrored_average(field, flipped(field))
    torch.testing.assert_close(average.coordinate, field.coordinate)
    torch.testing.assert_close(average.foreground, field.foreground)
    assert (average.log_scale is None) == (not scales)
    if scales:
        torch.testing.assert_close(average.log_scale, field.log_scale)


def test_the_average_is_that_of_both_sides_and_mirrored_with_the_image():
    field, mirrored = random_field(0), random_field(1)
    average, other = mirrored_average(field, mirrored), mirrored_average(mirrored, field)
    torch.testing.assert_close(flipped(other).coordinate, average.coordinate)
    torch.testing.assert_close(flipped(other).log_scale, average.log_scale)
    torch.testing.assert_close(flipped(other).foreground, average.foreground)


def test_the_surer_side_counts_more():
    """Scales of 1 and 2 make weights of 4/5 and 1/5, by hand; their mean weight 5/8 is that of the scale sqrt(8/5)."""
    one = torch.ones(1, 3, 1, 1)
    field = EmbeddingField(torch.zeros(1, 1, 1), 0 * one, 2, 0 * one)
    mirrored = EmbeddingField(torch.full((1, 1, 1), 50.0), one, 2, math.log(2) * one)
    average = mirrored_average(field, mirrored)
    torch.testing.assert_close(average.coordinate[0, :, 0, 0], torch.tensor([-0.2, 0.2, 0.2]))
    torch.testing.assert_close(average.log_scale[0, :, 0, 0].exp(), torch.full((3,), math.sqrt(8 / 5)))
    torch.testing.assert_close(average.foreground_probability, torch.full((1, 1, 1), 0.75))
