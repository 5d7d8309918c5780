"""The engines beyond "dense" and "tiled": fused, compact, attention, and the choice between them."""

import logging
from functools import partial
from typing import get_args

import pytest
import torch
from torch import Tensor

from dkp.losses import (
    block_kernels,
    blocks,
    compact,
    engines,
    expected_epipolar_distance,
    expected_point_distance,
    expected_position,
    expected_warp_distance,
    fused,
    kernels,
)
from dkp.losses.costs import EpipolarCost, Form
from dkp.losses.ragged import WASTE, extent, group_images
from dkp.losses.tiled import tiled_expectation

SIGMA = 0.05
CPU = torch.device("cpu")


def surface_problem(
    count: int, other_count: int, *, batch: int = 2, seed: int = 0, shift: float = 0.0
) -> dict[str, Tensor]:
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
        "field": sphere(count) + shift,
        "other_field": sphere(other_count),
        "pixels": draw(batch, count, 2) * 128,
        "other_pixels": draw(batch, other_count, 2) * 128,
        "fundamental": fundamental,
        "mask": draw(batch, count) > 0.2,
        "other_mask": draw(batch, other_count) > 0.2,
        "weight": draw(batch, count),
    }


def call(function, data: dict[str, Tensor], *, sigma: float = SIGMA, **options):
    """Call one of the four functions on a problem."""
    named = {key: data[key] for key in ("mask", "other_mask", "parts", "other_parts") if key in data}
    places = {
        expected_position: ("other_pixels",),
        expected_warp_distance: ("pixels", "other_pixels"),
    }.get(function, ("pixels", "other_pixels", "fundamental"))
    return function(data["field"], data["other_field"], *(data[key] for key in places), sigma, **{**named, **options})


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
    (expected_epipolar_distance, {"distance": "symmetric", "clip": 7.0}),
    (expected_epipolar_distance, {"distance": "sampson"}),
    (expected_warp_distance, {"clip": 20.0}),
    (expected_warp_distance, {"distance": "squared"}),
    (expected_point_distance, {}),
    (expected_position, {}),
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
    monkeypatch.setattr(engines, "block_kernel", fail)
    engines.compilation_failed.cache_clear()
    for engine in ("fused", "compact"):
        reason = engines.compilation_failed(engine, "squared", 3, CPU)
        assert reason == "compiling failed: RuntimeError: cannot compile"
    engines.compilation_failed.cache_clear()


@pytest.mark.parametrize("engine", ["fused", "compact"])
def test_compiled_engines_refuse_parts_and_double_precision(engine):
    data = surface_problem(8, 9)
    cost = EpipolarCost.create(data["pixels"], data["other_pixels"], data["fundamental"], "point_line", None)
    assert "part" in str(engines.compiling_refused(engine, data["field"], data["mask"].unsqueeze(-1).float(), cost))
    assert "float64" in str(engines.compiling_refused(engine, data["field"].double(), None, cost))


# The choice


def test_auto_goes_by_the_size_of_the_call_alone(monkeypatch, caplog):
    monkeypatch.setattr(engines, "FUSED_PAIRS", 200 * 200)
    monkeypatch.setattr(engines, "compilation_failed", lambda *_: None)
    monkeypatch.setattr(engines, "_noted", set())

    def taken(count: int) -> str:
        data = surface_problem(count, count, batch=1)
        cost = EpipolarCost.create(data["pixels"], data["other_pixels"], data["fundamental"], "point_line", None)
        return engines.find_engine("auto", data["field"], data["other_field"], None, cost)

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


# Attention

LINEAR = [
    (expected_epipolar_distance, {"distance": "squared"}),
    (expected_warp_distance, {"distance": "squared"}),
    (expected_point_distance, {"clip": 7.0}),
    (expected_position, {}),
]


@pytest.mark.parametrize(("function", "options"), LINEAR)
def test_attention_equals_dense(function, options):
    data = surface_problem(150, 130, batch=3)
    agree(
        results(function, data, engine="attention", **options),
        results(function, data, engine="dense", **options),
        2e-4,
    )


@pytest.mark.parametrize(
    ("function", "options", "reason"),
    [
        (expected_epipolar_distance, {}, "not linear"),
        (expected_epipolar_distance, {"distance": "squared", "clip": 20.0}, "clipped"),
        (expected_epipolar_distance, {"distance": "squared", "sigma": 1e-4}, "err by"),
    ],
)
def test_attention_refuses_what_it_cannot_do(function, options, reason):
    with pytest.raises(ValueError, match=reason):
        call(function, surface_problem(20, 20), engine="attention", **options)


# Compact support


@pytest.fixture
def uncompiled(monkeypatch) -> None:
    """Let the compact engine run its functions as they stand."""

    def plain(name: str, form: str | None, dimension: int, device: str):
        if name == "visit_excess":
            return blocks.visit_excess
        return partial(getattr(block_kernels, name), form=form, dimension=dimension)

    monkeypatch.setattr(compact, "block_kernel", plain)
    monkeypatch.setattr(engines, "compilation_failed", lambda *_: None)


def within_reach(data: dict[str, Tensor], sigma: float) -> Tensor:
    """(B, N) bool: rows that take part and have a candidate within 1.9 sigma, as the losses ask for."""
    away = torch.cdist(data["field"], data["other_field"])
    away = away.masked_fill(~data["other_mask"].unsqueeze(1), torch.inf)
    return data["mask"] & (away.amin(-1) < 1.9 * sigma)


@pytest.mark.parametrize("sigma", [0.01, 0.02, 0.05])
def test_compact_keeps_its_bound(sigma, uncompiled):
    data = surface_problem(1500, 1400, batch=1)
    seen = within_reach(data, sigma)
    assert seen.float().mean() > 0.5
    data["weight"] = data["weight"] * seen
    found = results(expected_epipolar_distance, data, engine="compact", clip=20.0, sigma=sigma)
    expected = results(expected_epipolar_distance, data, engine="dense", clip=20.0, sigma=sigma)
    assert (found[0] - expected[0])[seen].abs().max() <= compact.TOLERANCE * 20.0  # distances lie in [0, 20]
    torch.testing.assert_close(found[1][seen], expected[1][seen], rtol=1e-5, atol=1e-6)
    agree(found[2:], expected[2:], 1e-3)


@pytest.mark.parametrize(("function", "options"), FUSED)
def test_compact_does_every_formula(function, options, uncompiled):
    for batch, count, other_count in ((3, 157, 345), (1, 300, 31), (1, 3, 20), (2, 1, 1)):
        data = surface_problem(count, other_count, batch=batch, seed=1)
        data["mask"][:, 0] = data["other_mask"][:, 0] = True
        data["other_field"][:, 0] = data["field"][:, 0] + 0.01
        data["weight"] = data["weight"] * within_reach(data, SIGMA)
        found = results(function, data, engine="compact", **options)
        expected = results(function, data, engine="dense", **options)
        seen = data["weight"] > 0
        assert (found[0] - expected[0])[seen].abs().max() <= 2e-3 * expected[0].abs().max()
        if count > 10:  # where there are few pairs, the gradient is nothing but rounding
            agree(found[2:], expected[2:], 2e-3)


@pytest.mark.slow
def test_compiled_compact_equals_dense(compiler, monkeypatch, caplog):
    monkeypatch.setattr(engines, "_noted", set())
    graphs = 0
    for batch, count, other_count in ((3, 157, 345), (1, 700, 900), (2, 40, 57)):
        data = surface_problem(count, other_count, batch=batch)
        data["weight"] = data["weight"] * within_reach(data, SIGMA)
        found = results(expected_epipolar_distance, data, engine="compact", clip=20.0)
        expected = results(expected_epipolar_distance, data, engine="dense", clip=20.0)
        agree(found[2:], expected[2:], 1e-3)
        made = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert graphs in (0, made)  # one graph of each kind serves every size
        graphs = made
    assert not warnings_of_dkp(caplog)


@pytest.mark.parametrize("sigma", [0.005, 0.02, 0.1])
def test_compact_visits_few_blocks_and_leaves_no_more_than_tau(sigma):
    data = surface_problem(4000, 4000, batch=1)
    scale = compact._ROOT / (2**0.5 * sigma)
    u, v = data["field"] * scale, data["other_field"] * scale
    rows, columns = blocks.cut(u, data["mask"]), blocks.cut(v, data["other_mask"])
    visits = blocks.find_visits(rows, columns, compact.TOLERANCE, torch.exp(torch.tensor(-4.5)).item())[0]
    if sigma == 0.02:
        assert 0.01 < visits.float().mean() < 0.1
    weight = (-torch.cdist(u[0].double(), v[0].double()).square()).exp2() * data["other_mask"][0]
    block_of = (columns.slot // blocks.BLOCK).clamp_max(visits.shape[0] - 1)
    lost_most = 0.0
    for block in range(0, visits.shape[1], 7):
        members = rows.place.view(-1, blocks.BLOCK)[block][rows.valid[block]]
        total = weight[members].sum(1)
        lost = ((weight[members] * ~visits[block_of, block]).sum(1) / total)[total >= 0.0112]
        lost_most = max(lost_most, float(lost.amax())) if len(lost) else lost_most
    assert 0 < lost_most <= compact.TOLERANCE


def test_limits_reach_low_enough_for_many_blocks(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    rows, columns = (blocks.cut(40.0 * torch.rand(1, 50_000, 2, generator=generator), None) for _ in range(2))
    visited = blocks.find_visits(rows, columns, compact.TOLERANCE, 0.01).float().mean()
    monkeypatch.setattr(blocks, "_THRESHOLDS", 12)
    assert 0.005 < visited < 0.05
    assert visited < 1.01 * blocks.find_visits(rows, columns, compact.TOLERANCE, 0.01).float().mean()


def test_compact_beyond_reach_counts_as_without_candidates(uncompiled):
    data = surface_problem(64, 64, shift=9.0)
    value, best, *gradients = results(expected_epipolar_distance, data, engine="compact", distance="squared")
    assert value.abs().max() == 0
    assert best.abs().max() == 0
    assert all(bool((gradient == 0).all()) for gradient in gradients)


def test_blocks_hold_every_element_once():
    data = surface_problem(701, 70, batch=3)
    data["mask"][2] = False
    cut = blocks.cut(data["field"], data["mask"])
    place = cut.place.view(-1, blocks.BLOCK)
    assert sorted(place[cut.valid].tolist()) == data["mask"].flatten().nonzero()[:, 0].tolist()
    assert not cut.valid[-1].any()
    members = data["field"].flatten(0, 1)[place[:-1]].unflatten(0, (3, -1))  # (B, K, L, 3)
    valid = cut.valid[:-1].unflatten(0, (3, -1))
    low, high = cut.boxes.mT.unsqueeze(2).chunk(2, -1)
    assert ((members >= low) & (members <= high)).all(-1)[valid].all()
    mean, variance, number = cut.moments.mT.split([3, 1, 1], -1)
    assert torch.equal(number[..., 0].long(), valid.sum(2))
    away = (members - mean.unsqueeze(2)).square().sum(-1) * valid
    torch.testing.assert_close(away.sum(2), (variance * number)[..., 0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close((members * valid.unsqueeze(-1)).sum(2), mean * number, rtol=1e-4, atol=1e-5)
    back = cut.unpack(cut.pack(data["field"].movedim(-1, 0)))
    assert torch.equal(back, data["field"] * data["mask"].unsqueeze(-1))


def test_lists_of_visits_name_every_visit_once():
    visits = torch.rand(2, 9, 40, generator=torch.Generator().manual_seed(0)) < 0.4
    visits[1, 3] = False
    owner, visited, ends = blocks.list_visits(visits)
    named = [
        (int(one) // 9, int(one) % 9, other % 40)
        for one, others in zip(owner, visited.T.tolist(), strict=True)
        for other in others
        if other < 80
    ]
    assert len(named) == len({*named})
    assert sorted(named) == [tuple(one) for one in visits.nonzero().tolist()]
    assert owner[-2:].tolist() == [18, 18]
    assert (visited[:, -2:] == 80).all()
    for block, (start, end) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)):
        assert owner[start:end].tolist() == [block] * (end - start)
    nothing = blocks.list_visits(torch.zeros(1, 3, 4, dtype=torch.bool))
    assert nothing.owner.tolist() == [3, 3]
    assert nothing.ends.tolist() == [0, 0, 0, 0]


# Ragged lists


def test_groups_of_images_waste_little():
    rows, columns = [10, 0, 400, 390, 50, 60, 7], [12, 9, 380, 400, 55, 0, 7]
    groups = group_images(rows, columns)
    assert sorted(image for group in groups for image in group.images) == [0, 2, 3, 4, 6]
    for group in groups:
        assert group.rows == max(rows[image] for image in group.images)
        assert group.columns == max(columns[image] for image in group.images)
        own = sum(rows[image] * columns[image] for image in group.images)
        assert len(group.images) * group.rows * group.columns <= WASTE * own
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

    def counted(field: Tensor, other_field: Tensor, *rest: object):
        work.append(field.shape[0] * field.shape[1] * other_field.shape[1])
        return tiled_expectation(field, other_field, *rest)

    monkeypatch.setattr(engines, "tiled_expectation", counted)
    found = results(expected_epipolar_distance, data, engine="tiled")
    agree(found, results(expected_epipolar_distance, data, engine="dense"), 1e-4)
    assert sum(work) < 0.3 * 4 * 200 * 180
