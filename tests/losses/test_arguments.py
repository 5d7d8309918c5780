"""What the matching functions are given: the same sentence from every engine, and masked entries are as if absent."""

import pytest
import torch
from torch import Tensor

from dkp.fields import ChartAtlas, ChartField, EmbeddingField
from dkp.losses import (
    LabelledTerm,
    LossValue,
    MultiviewTerm,
    TemporalTerm,
    UnnormalisedMultiviewTerm,
    consistent_mean,
    expected_epipolar_distance,
    expected_point_distance,
    expected_warp_distance,
    select_cells,
)
from dkp.losses.cells import gather_field

MATCHING = (expected_epipolar_distance, expected_warp_distance, expected_point_distance)
ENGINES = ("auto", "dense", "tiled", "fused")
MASK_OF = {
    "field": "mask",
    "pixels": "mask",
    "parts": "mask",
    "other_field": "other_mask",
    "other_pixels": "other_mask",
    "other_parts": "other_mask",
}


def problem(parts: bool = False) -> dict[str, Tensor]:
    """Three pairs of views with masked pixels; the last pair has no candidate at all."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    data = {
        "field": 0.2 * draw(3, 12, 3),
        "other_field": 0.2 * draw(3, 9, 3),
        "pixels": 64 * draw(3, 12, 2),
        "other_pixels": 64 * draw(3, 9, 2),
        "fundamental": draw(3, 3, 3) - 0.5,
        "mask": draw(3, 12) > 0.3,
        "other_mask": draw(3, 9) > 0.3,
    }
    data["other_mask"][2] = False
    if parts:
        data["parts"], data["other_parts"] = draw(3, 12, 4).softmax(-1), draw(3, 9, 4).softmax(-1)
    return data


def call(function, data: dict[str, Tensor], **options):
    """Call a function on a problem; `consistent_mean` has no engine and no parts."""
    data = {**data, **options}
    if function is consistent_mean:
        data = {key: value for key, value in data.items() if key not in ("engine", "parts", "other_parts")}
        return function(**{"sigma": 0.05, "radius": 2.0, **data})
    if function is expected_warp_distance:
        data = {key: value for key, value in data.items() if key != "fundamental"}
        data["warped_pixels"] = data.pop("pixels")
    return function(**{"sigma": 0.05, **data})


def values_and_gradients(function, data: dict[str, Tensor], **options) -> list[Tensor]:
    """Both results and the gradients to the fields and parts, where the function has any."""
    leaves = [key for key in ("field", "other_field", "parts", "other_parts") if key in data]
    data = {**data, **{key: data[key].clone().requires_grad_() for key in leaves}}
    first, best = call(function, data, **options)
    if not first.requires_grad:
        return [first, best]
    gradients = torch.autograd.grad(first.sum(), [data[key] for key in leaves], allow_unused=True)
    return [first.detach(), best, *(one for one in gradients if one is not None)]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("engine", ["auto", "dense", "tiled"])
@pytest.mark.parametrize("function", MATCHING)
def test_masked_entries_may_hold_anything(function, engine, parts, bad):
    data = problem(parts)
    clean = values_and_gradients(function, data, engine=engine, clip=20.0)
    assert all(bool(one.isfinite().all()) for one in clean)
    dirty = {
        key: value.masked_fill(~data[MASK_OF[key]][..., None], bad) if key in MASK_OF else value
        for key, value in data.items()
    }
    dirty["fundamental"] = data["fundamental"].clone()
    dirty["fundamental"][2] = bad  # of a pair in which nothing takes part
    for found, expected in zip(values_and_gradients(function, dirty, engine=engine, clip=20.0), clean, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_masked_entries_of_the_consensus_may_hold_anything(bad):
    data = problem()
    mean, support = call(consistent_mean, data)
    assert support.max() > 0
    dirty = {
        key: value.masked_fill(~data[MASK_OF[key]][..., None], bad) if key in MASK_OF else value
        for key, value in data.items()
    }
    dirty["fundamental"] = data["fundamental"].clone()
    dirty["fundamental"][2] = bad
    found, found_support = call(consistent_mean, dirty)
    assert torch.equal(found_support, support)
    assert torch.equal(found[data["mask"]], mean[data["mask"]])
    assert found.isfinite().all()


def wrong(change: dict[str, object]) -> dict[str, object]:
    """The problem with some arguments exchanged."""
    data = problem()
    return {key: value(data[key]) if callable(value) else value for key, value in {**data, **change}.items()}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"clip": -1.0}, "clip is -1.0, expected a positive number"),
        ({"clip": 0.0}, "clip is 0.0, expected a positive number"),
        ({"clip": float("nan")}, "clip is nan, expected a positive number"),
        ({"sigma": 0.0}, "sigma is 0.0, expected a positive number"),
        ({"mask": lambda mask: mask.float()}, "mask is of type torch.float32, expected torch.bool"),
        ({"other_mask": lambda mask: mask.long()}, "other_mask is of type torch.int64, expected torch.bool"),
        ({"mask": lambda mask: mask[:, :4]}, r"mask has shape \(3, 4\), expected \(3, 12\)"),
        ({"mask": lambda mask: mask[..., None]}, r"mask has shape \(3, 12, 1\), expected \(3, 12\)"),
        ({"pixels": lambda pixels: pixels[:, :1]}, r"pixels has shape \(3, 1, 2\), expected \(3, 12, 2\)"),
        ({"other_pixels": lambda pixels: pixels[:1]}, r"other_pixels has shape \(1, 9, 2\), expected \(3, 9, 2\)"),
        ({"fundamental": lambda matrix: matrix[0]}, r"fundamental has shape \(3, 3\), expected \(3, 3, 3\)"),
        ({"field": lambda field: field[0]}, "the fields have shapes"),
        ({"field": lambda field: field[..., :2]}, "the fields have 2 and 3 channels"),
        ({"parts": torch.ones(3, 12, 2)}, "parts are given for one view only"),
        (
            {"parts": torch.ones(3, 12, 2), "other_parts": torch.ones(3, 9, 3)},
            r"other_parts has shape \(3, 9, 3\), expected \(3, 9, 2\)",
        ),
        ({"distance": "manhattan"}, "distance is 'manhattan', expected one of point_line"),
    ],
)
def test_every_engine_refuses_alike(change, sentence, engine):
    for function in (expected_epipolar_distance, expected_point_distance):
        with pytest.raises(ValueError, match=sentence):
            call(function, wrong(change), engine=engine)


@pytest.mark.parametrize("function", MATCHING)
def test_an_unknown_engine_is_refused_whatever_there_is_to_match(function):
    nothing = {key: value[:0] for key, value in problem().items()}
    for data in (problem(), nothing):
        with pytest.raises(ValueError, match="engine is 'fast', expected one of auto, dense, tiled, fused"):
            call(function, data, engine="fast")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("function", MATCHING)
def test_every_engine_takes_float64_and_mixed_types(function, engine):
    """Fields decide the type of the result; pixels and matrices follow them."""
    data = problem()
    double = {key: value.double() if value.is_floating_point() else value for key, value in data.items()}
    expected, best = call(function, double, engine="dense")
    found, found_best = call(function, double, engine=engine)
    assert found.dtype == found_best.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found_best, best, rtol=1e-9, atol=1e-9)
    if engine != "fused":  # what it compiles is tested elsewhere
        mixed = {**double, "field": data["field"], "other_field": data["other_field"].bfloat16()}
        found, _ = call(function, mixed, engine=engine)
        assert found.dtype == torch.float32
        lowered = {**data, "other_field": data["other_field"].bfloat16()}
        torch.testing.assert_close(found, call(function, lowered, engine=engine)[0])


# Terms over fields


def fields(kind: str, seed: int, bad: float | None, hidden: Tensor) -> tuple[EmbeddingField | ChartField, list[Tensor]]:
    """Make a field of three images of 4 x 5 cells and its leaves; `bad` stands in all cells that are `hidden`."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(*channels: int) -> Tensor:
        values = torch.rand(3, *channels, 4, 5, generator=generator)
        where = hidden.view(3, *(1,) * len(channels), 4, 5).expand_as(values)
        return (values if bad is None else values.masked_fill(where, bad)).requires_grad_()

    if kind == "charts":
        leaves = [leaf(4), leaf(3, 2)]
        return ChartField(*leaves, 2), leaves
    leaves = [leaf(), leaf(3)]
    return EmbeddingField(*leaves, 2), leaves


def term_with_masks(name: str, kind: str, bad: float | None) -> list[Tensor]:
    """Value, parts and gradients of a term with a mask; `bad` stands in all cells and labels that it leaves out."""
    generator = torch.Generator().manual_seed(5)
    shown, inside = (torch.rand(3, 4, 5, generator=generator) > 0.4 for _ in range(2))
    shown[2] = False
    field, leaves = fields(kind, 0, bad, ~shown)
    other, other_leaves = fields(kind, 1, None, ~shown)
    truth = torch.rand(3, 4, 4, 5, generator=generator)
    warped = 8 * torch.rand(3, 4, 5, 2, generator=generator)
    atlas = ChartAtlas(torch.rand(3, 3, 8, 8, generator=generator)) if kind == "charts" else None

    def spoilt(values: Tensor, mask: Tensor) -> Tensor:
        return values if bad is None else torch.where(mask, values, bad)

    if name == "labelled":
        seen = spoilt(truth, (shown & inside)[:, None])
        part = (3 * truth[:, 3]).long() + 1
        labels = {"foreground": inside, "coordinate": seen[:, :3], "uv": seen[:, :2], "part": part}
        term = LabelledTerm().loss(field, known=shown, **labels)
    elif name == "warp":
        spoilt_warp = spoilt(warped, shown[..., None])
        term = TemporalTerm(sigma=0.5).loss(field, other, spoilt_warp, valid=shown, atlas=atlas)
    else:
        first, second = gather_field(field, shown, 50, atlas), gather_field(other, inside, 50, atlas)
        match = {"multiview": MultiviewTerm, "unnormalised": UnnormalisedMultiviewTerm}[name]().match
        matched = match(first, second, torch.rand(3, 3, 3, generator=generator) - 0.5, 0.5)
        term = LossValue(matched.distance.sum(), matched.max_matchability.mean())
    gradients = torch.autograd.grad(term.value, leaves + other_leaves, allow_unused=True)
    return [term.value.detach(), *term.parts.values(), *(one for one in gradients if one is not None)]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("kind", ["embedding", "charts"])
@pytest.mark.parametrize("name", ["labelled", "warp", "multiview", "unnormalised"])
def test_cells_that_take_no_part_may_hold_anything(name, kind, bad):
    torch.manual_seed(0)
    clean = term_with_masks(name, kind, None)
    torch.manual_seed(0)
    dirty = term_with_masks(name, kind, bad)
    assert clean[0] > 0
    for found, expected in zip(dirty, clean, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["embedding", "charts"])
def test_terms_refuse_masks_that_are_none(kind):
    shown = torch.ones(3, 4, 5, dtype=torch.bool)
    field, _ = fields(kind, 0, None, ~shown)
    with pytest.raises(ValueError, match=r"known is of type torch\.int64, expected torch\.bool"):
        LabelledTerm().loss(field, foreground=shown, known=shown.long())
    with pytest.raises(ValueError, match=r"has_label has shape \(2,\), expected \(3,\)"):
        LabelledTerm().loss(field, foreground=shown, has_label=shown[:2, 0, 0])
    with pytest.raises(ValueError, match=r"valid is of type torch\.float32"):
        TemporalTerm().loss(field, field, torch.zeros(3, 4, 5, 2), valid=shown.float())
    with pytest.raises(ValueError, match=r"warped_pixels has shape \(3, 5, 4, 2\), expected \(3, 4, 5, 2\)"):
        TemporalTerm().loss(field, field, torch.zeros(3, 5, 4, 2))
    with pytest.raises(ValueError, match=r"mask is of type torch\.float32"):
        select_cells(shown.float(), 5)


def test_terms_refuse_distances_that_are_none():
    for term in (MultiviewTerm, TemporalTerm):
        with pytest.raises(ValueError, match=r"clip is -1, expected a positive"):
            term(clip=-1)
    with pytest.raises(ValueError, match=r"distance is 'manhattan', expected one of"):
        MultiviewTerm(distance="manhattan")  # type: ignore[arg-type]
