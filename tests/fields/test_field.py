"""Tests of the two field representations."""

import pytest
import torch

from dkp.fields import ChartAtlas, ChartField, EmbeddingField


def embedding(batch=2, height=3, width=4):
    generator = torch.Generator().manual_seed(0)
    return EmbeddingField(
        torch.randn(batch, height, width, generator=generator, requires_grad=True),
        torch.randn(batch, 3, height, width, generator=generator, requires_grad=True),
        stride=2,
    )


def charts(batch=2, parts=3, height=3, width=4):
    generator = torch.Generator().manual_seed(0)
    return ChartField(
        torch.randn(batch, parts + 1, height, width, generator=generator, requires_grad=True),
        torch.rand(batch, parts, 2, height, width, generator=generator, requires_grad=True),
        stride=4,
    )


def plane_atlas(parts=3, resolution=5):
    """Part p maps (u, v) to (u, v, p): linear, so the lookup is exact."""
    steps = torch.linspace(0, 1, resolution)
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    return ChartAtlas(torch.stack([torch.stack([u, v, torch.full_like(u, p)]) for p in range(1, parts + 1)]))


def test_pixels_are_cell_centres():
    pixels = embedding().pixels()
    assert pixels.shape == (3, 4, 2)
    assert pixels[0, 0].tolist() == [1, 1]
    assert pixels[2, 3].tolist() == [7, 5]
    assert charts().pixels()[0, 1].tolist() == [6, 2]


@pytest.mark.parametrize("field", [embedding(), charts()])
def test_detach_and_to(field):
    cut = field.detach()
    assert not cut.foreground_probability.requires_grad
    assert field.foreground_probability.requires_grad
    assert cut.stride == field.stride
    assert torch.equal(cut.foreground_probability, field.foreground_probability)
    assert field.to(torch.float64).foreground_probability.dtype == torch.float64
    assert field.size == (3, 4)


@pytest.mark.parametrize("field", [embedding(3), charts(3)])
def test_selection_along_the_batch(field):
    picked = field[torch.tensor([2, 0, 2])]
    assert torch.equal(picked.foreground[1], field.foreground[0])
    assert torch.equal(picked.foreground[0], field.foreground[2])
    assert torch.equal(field[-1].foreground, field.foreground[2:])
    assert field[torch.tensor([True, False, True])].foreground.shape[0] == 2


def test_chart_probabilities():
    field = charts()
    everything = torch.softmax(field.part_logits, dim=1)
    torch.testing.assert_close(field.foreground_probability, 1 - everything[:, 0])
    torch.testing.assert_close(field.part_probability.sum(1), torch.ones(2, 3, 4))
    torch.testing.assert_close(field.part_probability * field.foreground_probability.unsqueeze(1), everything[:, 1:])
    assert torch.equal(field.part, everything[:, 1:].argmax(1) + 1)


def test_chart_coordinates_through_the_atlas():
    field = charts()
    hard = field.coordinates(plane_atlas())
    assert hard.shape == (2, 3, 3, 4)
    assert torch.equal(hard[:, 2], field.part.float())
    for p in (1, 2, 3):
        torch.testing.assert_close(hard[:, :2][(field.part == p)[:, None].expand(-1, 2, -1, -1)],
                                   field.uv[:, p - 1][(field.part == p)[:, None].expand(-1, 2, -1, -1)])  # fmt: skip


def test_chart_coordinates_are_differentiable():
    field = charts()
    (gradient,) = torch.autograd.grad(field.coordinates(plane_atlas())[:, 0].sum(), field.uv)
    torch.testing.assert_close(gradient[:, :, 0].sum(1), torch.ones(2, 3, 4))
    assert gradient[:, :, 1].abs().max() < 1e-6


def test_chart_coordinates_need_the_right_atlas():
    with pytest.raises(ValueError, match="need a chart atlas"):
        charts().coordinates()
    with pytest.raises(ValueError, match="2 parts where the field has 3"):
        charts().coordinates(plane_atlas(2))


def test_embedding_needs_no_atlas():
    field = embedding()
    assert field.coordinates() is field.coordinate


def test_scale_goes_along():
    field = EmbeddingField(torch.zeros(3, 2, 2), torch.zeros(3, 3, 2, 2), 4, torch.arange(36.0).view(3, 3, 2, 2))
    field.log_scale.requires_grad_()
    assert field[1].log_scale.flatten().tolist() == list(range(12, 24))
    assert not field.detach().log_scale.requires_grad
    assert field.to(torch.float64).log_scale.dtype == torch.float64
    assert EmbeddingField(field.foreground, field.coordinate, 4)[0].log_scale is None
