"""The fused engine, the choice between the engines, and lists of unequal length."""

import logging
from functools import partial
from typing import get_args

import pytest
import torch
from torch import Tensor

from dkp.losses import (
    engines,
    expected_epipolar_distance,
    expected_point_distance,
    expected_warp_distance,
    fused,
    kernels,
)
from dkp.losses.costs import Form, PairCost, epipolar_cost
from dkp.losses.ragged import CALL, WASTE, extent, group_images
from dkp.losses.sides import Sides
from dkp.losses.tiled import tiled_expectation

SIGMA = 0.05
CPU = torch.device("cpu")


def surface_problem(count: int, other_count: int, *, batch: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Two views whose cells lie on a hemisphere of radius 0.4 m, in no order."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def sphere(number: int) -> Tensor:
        points = torch.randn(batch, number, 3, generator=generator)
        points = 0.4 * points / points.norm(dim=-1, keepdim=True)
        return torch.stack([points[..., 0], points[..., 1], points[..., 2].abs()], -1)

    fundamental = draw(batch, 3, 3) - 0.5
    fundamental[..., :2] *= 0.01
    fundamental[..., :2, :] *= 0.01
    return {
        "field": sphere(count),
        "other_field": sphere(other_count),
        "pixels": draw(batch, count, 2) * 128,
        "other_pixels": draw(batch, other_count, 2) * 128,
        "fundamental": fundamental,
        "mask": draw(batch, count) > 0.2,
        "other_mask": draw(batch, other_count) > 0.2,
        "weight": draw(batch, count),
    }


def call(function, data: dict[str, Tensor], *, sigma: float = SIGMA, **options):
    """Call one of the three functions on a problem."""
    named = {key: data[key] for key in ("mask", "other_mask", "parts", "other_parts") if key in data}
    rest = ["pixels", "other_pixels", *([] if function is expected_warp_distance else ["fundamental"])]
    return function(data["field"], data["other_field"], *(data[key] for key in rest), sigma, **{**named, **options})


def results(function, data: dict[str, Tensor], **options) -> list[Tensor]:
    """The result, the best matchability and the gradients to both fields."""
    data = {**data, "field": data["field"].clone(), "other_field": data["other_field"].clone()}
    leaves = [data[key].requires_grad_() for key in ("field", "other_field")]
    first, best = call(function, data, **options)
    scalar = (first if first.ndim == 2 else first.sum(-1)).mul(data["weight"]).sum()
    return [first.detach(), best, *torch.autograd.grad(scalar, leaves)]


def agree(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Every tensor to a share of its greatest entry."""
    for one, two in zip(found, expected, strict=True):
        assert two.abs().max() > 0
        assert (one - two).abs().max() <= tolerance * two.abs().max()


# Fused

FUSED = [
    (expected_epipolar_distance, {"clip": 20.0}),
    (expected_epipolar_distance, {"distance": "squared"}),
    (expected_epipolar_distance, {"distance": "sampson", "clip": 7.0}),
    (expected_warp_distance, {"clip": 20.0}),
    (expected_point_distance, {}),
]


@pytest.mark.parametrize(("function", "options"), FUSED)
def test_the_arithmetic_of_the_fused_engine_equals_dense(function, options, monkeypatch):
    """The functions that are compiled, run as they stand."""

    def plain(name: str, form: str | None, dimension: int, device: str):
        source = kernels._SOURCES[name]
        return source if form is None else partial(source, form=form)

    monkeypatch.setattr(fused, "kernel", plain)
    monkeypatch.setattr(engines, "compilation_failed", lambda *_: None)
    for batch, count, other_count in ((3, 57, 45), (1, 64, 31), (1, 3, 20), (2, 1, 20)):
        data = surface_problem(count, other_count, batch=batch, seed=1)
        data["mask"][:, 0] = data["other_mask"][:, 0] = True
        found = results(function, data, engine="fused", **options)
        expected = results(function, data, engine="dense", **options)
        agree(found[:2], expected[:2], 1e-4)
        if count > 10:  # where a few pairs are all clipped, the gradient is nothing but rounding
            agree(found[2:], expected[2:], 1e-4)


@pytest.mark.parametrize("form", get_args(Form))
def test_every_formula_has_an_example_of_its_own_shape(form):
    for name in ("row_sums", "column_sums"):
        example = kernels._example(name, form, 3, CPU)
        small = [[one[:, :5] for one in part] if isinstance(part, list) else part[..., :5] for part in example[:-1]]
        made = kernels._SOURCES[name](*small, example[-1], form=form)
        assert made is not None
        sizes = [one.shape for part in example for one in (part if isinstance(part, list) else [part]) if one.ndim]
        assert len({*sizes}) == 2  # rows and columns
        assert len({3, *(size for shape in sizes for size in shape)}) == 3


@pytest.fixture(scope="module")
def compiler() -> None:
    """Skip where nothing can be compiled."""
    reason = kernels.compiler_missing(CPU)
    if reason is not None:
        pytest.skip(reason)


def warnings_of_dkp(caplog) -> list[str]:
    """What dkp has warned of."""
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    return [record.getMessage() for record in records if record.name.startswith("dkp")]


@pytest.mark.parametrize(
    "case", [case if not number else pytest.param(case, marks=pytest.mark.slow) for number, case in enumerate(FUSED)]
)
def test_fused_equals_dense(case, compiler, monkeypatch, caplog):
    monkeypatch.setattr(engines, "_noted", set())
    function, options = case
    graphs = 0
    for batch, count, other_count in ((3, 57, 45), (2, 45, 57), (1, 64, 31), (4, 33, 33)):
        data = surface_problem(count, other_count, batch=batch)
        found = results(function, data, engine="fused", **options)
        agree(found, results(function, data, engine="dense", **options), 1e-4)
        # One graph of each kind serves every size.
        made = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert graphs in (0, made)
        graphs = made
    assert not warnings_of_dkp(caplog)  # nothing stood in for it


def test_fused_keeps_bfloat16_fields_and_float32_geometry(compiler):
    data = surface_problem(40, 50)
    low = {**data, "field": data["field"].bfloat16(), "other_field": data["other_field"].bfloat16()}
    high = {**low, "field": low["field"].float(), "other_field": low["other_field"].float()}
    value, best, *gradients = results(expected_epipolar_distance, low, engine="fused", clip=20.0)
    expected = results(expected_epipolar_distance, high, engine="dense", clip=20.0)
    assert value.dtype == torch.float32
    assert {gradient.dtype for gradient in gradients} == {torch.bfloat16}
    agree([value, best], expected[:2], 1e-4)
    agree([gradient.float() for gradient in gradients], expected[2:], 1e-2)


def test_fused_at_the_edges(compiler):
    data = surface_problem(40, 30)
    clean = results(expected_epipolar_distance, data, engine="fused", clip=20.0)
    dirty = dict(data)
    for key, mask in (("field", "mask"), ("other_field", "other_mask")):
        dirty[key] = torch.where(data[mask].unsqueeze(-1), data[key], torch.nan)
    for one, two in zip(results(expected_epipolar_distance, dirty, engine="fused", clip=20.0), clean, strict=True):
        torch.testing.assert_close(one, two)
    data["other_mask"][0] = False  # one image without candidates
    value, best, *gradients = results(expected_epipolar_distance, data, engine="fused", clip=20.0)
    assert value[0].abs().max() == 0
    assert best[0].abs().max() == 0
    assert gradients[0][0].abs().max() == 0
    torch.testing.assert_close(value[1], clean[0][1])
    far = {**data, "field": data["field"] + 5.0}
    for tensor in results(expected_epipolar_distance, far, engine="fused", clip=20.0, sigma=1e-4):
        assert torch.isfinite(tensor).all()


def test_power_of_two():
    exponent = torch.cat([torch.linspace(kernels.LEAST_EXPONENT, 0, 100_001), torch.tensor([0.0, 1.0, 126.0])])
    expected = exponent.double().exp2()
    assert ((kernels.power_of_two(exponent).double() - expected).abs() / expected).max() < 4e-6


def test_without_a_compiler_fused_is_tiled_and_says_so_once(monkeypatch, caplog):
    monkeypatch.setattr(kernels.shutil, "which", lambda name: None)
    monkeypatch.setattr(engines, "_noted", set())
    engines.compilation_failed.cache_clear()
    data = surface_problem(40, 30)
    with caplog.at_level(logging.INFO, logger="dkp.losses"):
        found = [results(expected_epipolar_distance, data, engine="fused") for _ in range(2)]
    engines.compilation_failed.cache_clear()
    expected = results(expected_epipolar_distance, data, engine="tiled")
    for one, two in zip(found[0], expected, strict=True):
        assert torch.equal(one, two)
    notes = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(notes) == 1
    assert "fused -> tiled: no C++ compiler is present" in notes[0]


def test_a_compiler_that_fails_is_not_an_error(monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("cannot compile\nat all")

    monkeypatch.setattr(engines, "compiler_missing", lambda device: None)
    monkeypatch.setattr(engines, "kernel", fail)
    engines.compilation_failed.cache_clear()
    reason = engines.compilation_failed("squared", 3, CPU)
    assert reason == "compiling failed: RuntimeError: cannot compile"
    engines.compilation_failed.cache_clear()


def test_the_fused_engine_refuses_parts_and_double_precision():
    data = surface_problem(8, 9)
    cost = epipolar_cost(data["pixels"], data["other_pixels"], data["fundamental"], "point_line", None)
    parts = {"parts": torch.ones(2, 8, 2), "other_parts": torch.ones(2, 9, 2)}
    assert "part" in str(engines.compiling_refused(Sides.create(data["field"], data["other_field"], **parts), cost))
    double = Sides.create(data["field"].double(), data["other_field"])
    assert "float64" in str(engines.compiling_refused(double, cost))


# The choice


def test_auto_goes_by_the_size_of_the_call_alone(monkeypatch, caplog):
    monkeypatch.setattr(engines, "FUSED_PAIRS", 200 * 200)
    monkeypatch.setattr(engines, "compilation_failed", lambda *_: None)
    monkeypatch.setattr(engines, "_noted", set())

    def taken(count: int) -> str:
        data = surface_problem(count, count, batch=1)
        cost = epipolar_cost(data["pixels"], data["other_pixels"], data["fundamental"], "point_line", None)
        return engines.find_engine("auto", Sides.create(data["field"], data["other_field"]), cost)

    with caplog.at_level(logging.INFO, logger="dkp.losses"):
        assert [taken(50), taken(199), taken(200)] == ["dense", "tiled", "fused"]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"matching engine auto -> {name}" for name in ("dense", "tiled", "fused")
    ]
    # However much went before: a run that is resumed takes the same engines.
    assert [taken(199) for _ in range(20)] == ["tiled"] * 20
    assert taken(50) == "dense"
    monkeypatch.setattr(engines, "compilation_failed", lambda *_: "no compiler")
    assert taken(200) == "tiled"


# Ragged lists


def test_groups_of_images_waste_little():
    rows, columns = [10, 0, 400, 390, 50, 60, 7], [12, 9, 380, 400, 55, 0, 7]
    groups = group_images(rows, columns)
    assert sorted(image for group in groups for image in group.images) == [0, 2, 3, 4, 6]
    for group in groups:
        assert group.rows == max(rows[image] for image in group.images)
        assert group.columns == max(columns[image] for image in group.images)
        own = sum(rows[image] * columns[image] for image in group.images)
        assert len(group.images) * group.rows * group.columns <= WASTE * own + CALL
    assert [group.images for group in groups] == [[3, 2], [4, 0, 6]]  # the small ones share a call
    assert extent(torch.tensor([[True, False, True, False], [False] * 4])) == [3, 0]


@pytest.mark.parametrize("parts", [0, 3])
def test_ragged_lists_equal_dense(parts, monkeypatch):
    data = surface_problem(200, 180, batch=4)
    for image, (count, other_count) in enumerate(((200, 180), (30, 20), (0, 50), (40, 0))):
        data["mask"][image, count:] = False
        data["other_mask"][image, other_count:] = False
    if parts:
        data["parts"] = torch.rand(4, 200, parts).softmax(-1)
        data["other_parts"] = torch.rand(4, 180, parts).softmax(-1)
    work = []

    def counted(sides: Sides, cost: PairCost):
        work.append(sides.field.shape[0] * sides.field.shape[1] * sides.other_field.shape[1])
        return tiled_expectation(sides, cost)

    monkeypatch.setitem(engines.EXPECTATIONS, "tiled", counted)
    found = results(expected_epipolar_distance, data, engine="tiled")
    agree(found, results(expected_epipolar_distance, data, engine="dense"), 1e-4)
    assert sum(work) < 0.3 * 4 * 200 * 180
