"""Distillation and labelled losses, and the selection of cells."""

import math

import pytest
import torch

from dkp.batches import ViewPairs
from dkp.fields import ChartField, EmbeddingField, gather_cells
from dkp.losses import (
    DistillationTerm,
    LabelledTerm,
    LossValue,
    gather_pixels,
    masked_mean,
    select_cells,
)
from dkp.losses.penalty import thin_parts


def embedding(seed: int = 0, batch: int = 2) -> EmbeddingField:
    """A random field of 6 x 8 cells."""
    generator = torch.Generator().manual_seed(seed)
    return EmbeddingField(
        torch.randn(batch, 6, 8, generator=generator), torch.randn(batch, 3, 6, 8, generator=generator), 4
    )


def charts(seed: int = 0, batch: int = 2) -> ChartField:
    """A random chart field of 6 x 8 cells and 3 parts."""
    generator = torch.Generator().manual_seed(seed)
    return ChartField(
        torch.randn(batch, 4, 6, 8, generator=generator), torch.rand(batch, 3, 2, 6, 8, generator=generator), 4
    )


def check_graph(term: LossValue, *leaves: torch.Tensor, zero: bool = False) -> None:
    """The value is a scalar whose gradients are finite, and zero or not as expected."""
    assert term.value.ndim == 0
    gradients = torch.autograd.grad(term.value, leaves, retain_graph=True)
    for gradient in gradients:
        assert torch.isfinite(gradient).all()
        assert bool((gradient == 0).all()) == zero


# --------------------------------------------------------------------------------------------------------- selection


def test_selection_takes_marked_cells_only():
    mask = torch.zeros(2, 5, 7, dtype=torch.bool)
    mask[0, 1, 2:5] = True
    mask[1, 4, 6] = True
    selection = select_cells(mask, 10)
    assert selection.cells.shape == (2, 3)
    assert sorted(selection.cells[0].tolist()) == [9, 10, 11]
    assert selection.mask.tolist() == [[True] * 3, [True, False, False]]
    assert selection.cells[1, 0] == 34


def test_selection_thins_at_random():
    mask = torch.ones(1, 20, 20, dtype=torch.bool)
    torch.manual_seed(0)
    counts = torch.zeros(400)
    for _ in range(200):
        selection = select_cells(mask, 40)
        assert selection.cells.shape == (1, 40)
        assert selection.cells.unique().numel() == 40
        counts[selection.cells[0]] += 1
    assert counts.min() > 3
    assert counts.max() < 50


def test_selection_of_nothing():
    assert select_cells(torch.zeros(2, 3, 3, dtype=torch.bool), 5).cells.shape == (2, 0)
    assert select_cells(torch.ones(0, 3, 3, dtype=torch.bool), 5).cells.shape == (0, 0)


def test_gathering_keeps_places_and_values_together():
    field = embedding()
    selection = select_cells(field.foreground > 0, 100)
    pixels = gather_pixels(field.pixels(), selection.cells)
    values = gather_cells(field.coordinate, selection.cells)
    logits = gather_cells(field.foreground, selection.cells)
    for b in range(2):
        for n in range(selection.cells.shape[1]):
            if selection.mask[b, n]:
                x, y = ((pixels[b, n] / 4).floor()).long().tolist()
                assert torch.equal(values[b, n], field.coordinate[b, :, y, x])
                assert logits[b, n] == field.foreground[b, y, x] > 0


def test_masked_mean():
    values = torch.tensor([1.0, 3.0, math.nan])
    assert masked_mean(values, torch.tensor([True, True, False])) == 2
    assert masked_mean(values, torch.tensor([3.0, 1.0, 0.0])) == 1.5
    assert masked_mean(values, torch.zeros(3)) == 0


# ------------------------------------------------------------------------------------------------------ distillation


@pytest.mark.parametrize("make", [embedding, charts])
def test_the_teacher_itself_is_the_minimum(make):
    teacher = make(0)
    loss = DistillationTerm().loss
    same, other = loss(make(0), teacher), loss(make(1), teacher)
    assert same.parts["coordinate"] == 0
    assert other.parts["coordinate"] > 0.1
    assert other.parts["foreground"] > same.parts["foreground"] + 0.1
    assert other.value.item() == pytest.approx((other.parts["coordinate"] + other.parts["foreground"]).item())
    if make is charts:
        assert same.value.abs() < 1e-6  # a divergence, so zero; the cross entropy of embeddings has a floor


def test_embedding_distillation_by_hand():
    teacher = EmbeddingField(torch.tensor([[[3.0, -3.0, 3.0]]]), torch.zeros(1, 3, 1, 3), 4)
    coordinate = torch.zeros(1, 3, 1, 3)
    coordinate[0, 0, 0] = torch.tensor([0.5, 7.0, 0.01])
    student = EmbeddingField(torch.zeros(1, 1, 3), coordinate, 4)
    term = DistillationTerm(beta=0.03, scale=0.1, foreground_weight=0.5).loss(student, teacher)
    expected = ((0.5 - 0.015) / 0.1 + 0.01**2 / 0.06 / 0.1) / 2
    assert term.parts["coordinate"].item() == pytest.approx(expected, rel=1e-5)
    assert term.parts["foreground"].item() == pytest.approx(math.log(2), rel=1e-5)
    assert term.value.item() == pytest.approx(expected + 0.5 * math.log(2), rel=1e-5)
    assert term.valid_share.item() == pytest.approx(2 / 3)
    sure = DistillationTerm(foreground_weight=0).loss(student, teacher, confidence=torch.tensor([[[1.0, 1.0, 0.0]]]))
    assert sure.value.item() == pytest.approx((0.5 - 0.015) / 0.1, rel=1e-5)


@pytest.mark.parametrize("make", [embedding, charts])
def test_distillation_leaves_the_teacher_alone(make):
    student, teacher = make(0), make(1)
    names = ("foreground", "coordinate") if make is embedding else ("part_logits", "uv")
    for field in (student, teacher):
        for name in names:
            getattr(field, name).requires_grad_()
    term = DistillationTerm().loss(student, teacher)
    check_graph(term, *(getattr(student, name) for name in names))
    with pytest.raises(RuntimeError):
        torch.autograd.grad(term.value, getattr(teacher, names[0]))


def test_distillation_refuses_mixed_fields():
    with pytest.raises(TypeError, match="ChartField"):
        DistillationTerm().loss(embedding(), charts())


def rectified(height, width, shift=0.0):
    """A view of a fronto-parallel plane whose epipolar lines are rows; coordinates [m] = cells / 10, moved down."""
    rows, columns = torch.meshgrid(torch.arange(height) * 0.1, torch.arange(width) * 0.1, indexing="ij")
    coordinate = torch.stack([columns, rows + 0.1 * shift, torch.zeros_like(rows)])[None]
    return EmbeddingField(torch.full((1, height, width), 5.0), coordinate, 2)


def test_a_teacher_is_trusted_less_where_its_views_contradict_each_other():
    term = DistillationTerm(trust_radius=4.0)
    fields = [rectified(12, 12), rectified(12, 12), rectified(12, 12, shift=2.0), rectified(12, 12)]
    fields[3].foreground[:] = -5.0
    target = EmbeddingField(torch.cat([f.foreground for f in fields]), torch.cat([f.coordinate for f in fields]), 2)
    rows = torch.tensor([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2], [0, 3]])
    view_pairs = ViewPairs(pairs[:, 0], pairs[:, 1], rows.expand(4, 3, 3))
    confidence = term.confidence(target, view_pairs, 0.02)
    assert confidence[:2].min() > 0.99  # confirmed by each other, though not by the third
    inside = confidence[2, :9]
    torch.testing.assert_close(
        inside, torch.full_like(inside, 0.5), rtol=0.02, atol=0
    )  # two cells of 2 px = the radius
    assert (confidence[3] == 1).all()  # nobody can judge the background
    term.trust_radius = None
    assert term.confidence(target, view_pairs, 0.02) is None


# ---------------------------------------------------------------------------------------------------------- labelled


def test_embedding_labels_by_hand():
    field = EmbeddingField(torch.tensor([[[2.0, -1.0, 5.0]]]), torch.zeros(1, 3, 1, 3), 4)
    coordinate = torch.full((1, 3, 1, 3), math.nan)  # what stands outside the known surface must not matter
    coordinate[0, :, 0, 0] = torch.tensor([0.3, 0.0, 0.4])
    foreground = torch.tensor([[[True, False, True]]])
    known = torch.tensor([[[True, True, False]]])
    term = LabelledTerm(beta=0.03).loss(field, foreground=foreground, coordinate=coordinate, known=known)
    assert term.parts["coordinate"].item() == pytest.approx((0.3 - 0.015 + 0.4 - 0.015) / 0.1, rel=1e-5)
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert term.parts["foreground"].item() == pytest.approx(expected, rel=1e-5)
    assert term.parts["error"].item() == pytest.approx(0.5)
    assert term.valid_share.item() == pytest.approx(2 / 3)


def test_limbs_are_thin_and_trunks_are_not():
    surface = torch.zeros(2, 100, 100)
    surface[0, 20:60, 40:60] = 1  # a trunk
    surface[0, 60:90, 48:53] = 1  # and a limb of 5 cells
    surface[1, :, :] = 1
    thin = thin_parts(surface)
    expected = torch.zeros(2, 100, 100)
    expected[0, 60:90, 48:53] = 1
    assert torch.equal(thin, expected)
    assert not thin_parts(torch.zeros(1, 16, 16)).any()


def test_the_foreground_counts_more_where_the_surface_is_thin():
    surface = torch.zeros(1, 40, 40, dtype=torch.bool)
    surface[:, 5:20, 10:25] = True
    surface[:, 20:35, 16:18] = True
    thin = torch.zeros_like(surface)
    thin[:, 20:35, 16:18] = True
    labels = {"foreground": surface, "coordinate": torch.zeros(1, 3, 40, 40)}

    def loss(lost, **options):
        logit = torch.where(surface & ~lost, 4.0, -4.0)
        return LabelledTerm(**options).loss(EmbeddingField(logit, torch.zeros(1, 3, 40, 40), 4), **labels).value

    cost = math.log1p(math.exp(4)) - math.log1p(math.exp(-4))
    for weight in (0.0, 3.0):
        more = loss(thin, thin_weight=weight) - loss(torch.zeros_like(thin), thin_weight=weight)
        assert more.item() == pytest.approx((1 + weight) * 30 * cost / 1600, rel=1e-4)
    trunk = surface & ~thin
    torch.testing.assert_close(
        loss(trunk, thin_weight=3.0) - loss(trunk), loss(trunk * False, thin_weight=3.0) - loss(trunk * False)
    )


def test_chart_labels_by_hand():
    logits = torch.tensor([0.0, 1.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    uv = torch.zeros(1, 2, 2, 1, 2)
    uv[0, 1, :, 0, 0] = torch.tensor([0.5, 0.6])
    labels = {
        "foreground": torch.tensor([[[True, False]]]),
        "part": torch.tensor([[[2, -7]]]),
        "uv": torch.tensor([[[[0.1, math.nan]], [[0.6, math.nan]]]]),
    }
    term = LabelledTerm().loss(ChartField(logits, uv, 4), **labels)
    assert term.parts["coordinate"].item() == pytest.approx((0.4 - 0.025) / 0.1, rel=1e-5)
    total = math.log(1 + math.exp(1) + math.exp(3))
    assert term.parts["foreground"].item() == pytest.approx(((total - 3) + (total - 0)) / 2, rel=1e-5)


@pytest.mark.parametrize("make", [embedding, charts])
def test_unlabelled_images_do_not_count(make):
    generator = torch.Generator().manual_seed(3)
    labels = {
        "foreground": torch.rand(2, 6, 8, generator=generator) > 0.5,
        "coordinate": torch.rand(2, 3, 6, 8, generator=generator),
        "part": torch.randint(1, 4, (2, 6, 8), generator=generator),
        "uv": torch.rand(2, 2, 6, 8, generator=generator),
    }
    field = make(0)
    first = LabelledTerm().loss(make(0)[:1], **{key: value[:1] for key, value in labels.items()})
    masked = LabelledTerm().loss(field, **labels, has_label=torch.tensor([True, False]))
    assert masked.value.item() == pytest.approx(first.value.item(), rel=1e-5)
    assert masked.valid_share == 0.5
    names = ("foreground", "coordinate") if make is embedding else ("part_logits", "uv")
    leaves = [getattr(field, name).requires_grad_() for name in names]
    check_graph(LabelledTerm().loss(field, **labels), *leaves)
    nothing = LabelledTerm().loss(field, **labels, has_label=torch.tensor([False, False]))
    assert nothing.value == 0
    assert nothing.valid_share == 0
    check_graph(nothing, *leaves, zero=True)


def test_missing_labels_are_refused():
    foreground = torch.ones(2, 6, 8, dtype=torch.bool)
    with pytest.raises(ValueError, match="coordinate"):
        LabelledTerm().loss(embedding(), foreground=foreground)
    with pytest.raises(ValueError, match="uv"):
        LabelledTerm().loss(charts(), foreground=foreground)


@pytest.mark.parametrize("make", [embedding, charts])
def test_half_precision_fields_give_float32_losses(make):
    low = make(0).to(torch.bfloat16)
    assert DistillationTerm().loss(low, make(1)).value.dtype == torch.float32
    generator = torch.Generator().manual_seed(3)
    term = LabelledTerm().loss(
        low,
        foreground=torch.ones(2, 6, 8, dtype=torch.bool),
        coordinate=torch.rand(2, 3, 6, 8, generator=generator),
        part=torch.ones(2, 6, 8, dtype=torch.long),
        uv=torch.rand(2, 2, 6, 8, generator=generator),
    )
    assert term.value.dtype == torch.float32
