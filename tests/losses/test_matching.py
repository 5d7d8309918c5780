"""The matching engines: against each other, against NumPy, and at the edges."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from dkp.losses import (
    expected_epipolar_distance,
    expected_point_distance,
    expected_warp_distance,
)

SIGMA = 0.05
EPIPOLAR = ("point_line", "squared", "sampson")
CASES = [
    *((expected_epipolar_distance, {"distance": kind}) for kind in EPIPOLAR),
    (expected_epipolar_distance, {"distance": "sampson", "clip": 7.0}),
    *((expected_point_distance, {"distance": kind}) for kind in EPIPOLAR),
    (expected_point_distance, {"clip": 7.0}),
    (expected_warp_distance, {}),
    (expected_warp_distance, {"clip": 20.0}),
]
NAMES = [f"{function.__name__}-{'-'.join(map(str, options.values()))}" for function, options in CASES]


def problem(
    batch: int, rows: int, columns: int, dtype: torch.dtype, parts: int = 0, seed: int = 0
) -> dict[str, Tensor]:
    """A random pair of views with some pixels masked."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)

    fundamental = draw(batch, 3, 3) - 0.5
    fundamental[..., :2] *= 0.01
    fundamental[..., :2, :] *= 0.01
    data = {
        "field": draw(batch, rows, 3) * 0.5,
        "other_field": draw(batch, columns, 3) * 0.5,
        "pixels": draw(batch, rows, 2) * 128,
        "other_pixels": draw(batch, columns, 2) * 128,
        "fundamental": fundamental,
        "mask": draw(batch, rows) > 0.2,
        "other_mask": draw(batch, columns) > 0.2,
        "weight": draw(batch, rows),
    }
    if parts:
        data["parts"] = (4 * draw(batch, rows, parts)).softmax(-1)
        data["other_parts"] = (4 * draw(batch, columns, parts)).softmax(-1)
    return data


def call(function, data: dict[str, Tensor], *, sigma: float = SIGMA, **options):
    """Call one of the three functions on a problem."""
    named = {key: data[key] for key in ("mask", "other_mask", "parts", "other_parts") if key in data}
    options = {**named, **options}
    if function is expected_warp_distance:
        return function(data["field"], data["other_field"], data["pixels"], data["other_pixels"], sigma, **options)
    return function(
        data["field"],
        data["other_field"],
        data["pixels"],
        data["other_pixels"],
        data["fundamental"],
        sigma,
        **options,
    )


def value_and_gradients(function, data: dict[str, Tensor], **options) -> list[Tensor]:
    """The result, the best matchability and the gradients to fields and parts."""
    data = dict(data)
    keys = [key for key in ("field", "other_field", "parts", "other_parts") if key in data]
    for key in keys:
        data[key] = data[key].clone().requires_grad_()
    first, best = call(function, data, **options)
    scalar = (first if first.ndim == 2 else first.sum(-1)).mul(data["weight"]).sum()
    return [first.detach(), best, *torch.autograd.grad(scalar, [data[key] for key in keys])]


@pytest.mark.parametrize("parts", [0, 5])
@pytest.mark.parametrize(("function", "options"), CASES, ids=NAMES)
def test_tiled_equals_dense(function, options, parts, monkeypatch):
    monkeypatch.setattr("dkp.losses.tiled._CPU_BLOCK", 1000)  # several blocks, the last one ragged
    data = problem(3, 57, 45, torch.float32, parts)
    dense = value_and_gradients(function, data, engine="dense", **options)
    tiled = value_and_gradients(function, data, engine="tiled", **options)
    assert len(dense) == (6 if parts else 4)
    for expected, found in zip(dense, tiled, strict=True):
        assert expected.abs().max() > 0
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("parts", [0, 4])
def test_tiled_equals_dense_over_blocks_of_several_images(parts):
    data = problem(5, 40, 30, torch.float64, parts)
    dense = value_and_gradients(expected_epipolar_distance, data, engine="dense")
    tiled = value_and_gradients(expected_epipolar_distance, data, engine="tiled")
    for expected, found in zip(dense, tiled, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("engine", ["dense", "tiled"])
@pytest.mark.parametrize(("function", "options"), CASES, ids=NAMES)
def test_gradcheck(function, options, engine):
    data = problem(2, 5, 4, torch.float64, parts=3, seed=4)
    keys = ("field", "other_field", "parts", "other_parts")

    def run(*tensors: Tensor) -> Tensor:
        return call(function, {**data, **dict(zip(keys, tensors, strict=True))}, sigma=0.2, engine=engine, **options)[0]

    inputs = tuple(data[key].clone().requires_grad_() for key in keys)
    assert torch.autograd.gradcheck(run, inputs, atol=1e-5)


def test_against_numpy():
    """Loops in NumPy, written from the formulas alone."""
    data = problem(1, 12, 9, torch.float64, parts=3, seed=2)
    arrays = {key: value[0].numpy() for key, value in data.items()}
    found, best = call(expected_epipolar_distance, data, engine="tiled")
    point, _ = call(expected_point_distance, data, engine="tiled")
    warp, _ = call(expected_warp_distance, data, engine="tiled")
    for i in range(12):
        if not arrays["mask"][i]:
            assert found[0, i] == best[0, i] == point[0, i] == warp[0, i] == 0
            continue
        matchability, distances, moved, places = [], [], [], []
        line = arrays["fundamental"] @ np.append(arrays["pixels"][i], 1.0)
        for j in range(9):
            if not arrays["other_mask"][j]:
                continue
            place = np.append(arrays["other_pixels"][j], 1.0)
            gap = np.sum((arrays["field"][i] - arrays["other_field"][j]) ** 2)
            agreement = np.sum(arrays["parts"][i] * arrays["other_parts"][j])
            matchability.append(agreement * np.exp(-gap / (2 * SIGMA**2)))
            distances.append(abs(place @ line) / np.hypot(line[0], line[1]))
            moved.append(np.linalg.norm(arrays["pixels"][i] - place[:2]))
            places.append(place)
        share = np.array(matchability) / np.sum(matchability)
        assert best[0, i].item() == pytest.approx(max(matchability), rel=1e-9)
        assert found[0, i].item() == pytest.approx(share @ distances, rel=1e-9)
        assert warp[0, i].item() == pytest.approx(share @ moved, rel=1e-9)
        expected = abs(line @ (share @ np.array(places))) / np.hypot(line[0], line[1])
        assert point[0, i].item() == pytest.approx(expected, rel=1e-9)


def test_gradient_has_the_closed_form():
    data = problem(1, 6, 7, torch.float64, seed=5)
    del data["mask"], data["other_mask"]
    _, _, grad, _ = value_and_gradients(expected_epipolar_distance, data, engine="tiled")
    u, v = data["field"][0], data["other_field"][0]
    p = (-(u[:, None] - v[None]).square().sum(-1) / (2 * SIGMA**2)).softmax(-1)
    lines = torch.nn.functional.pad(data["pixels"][0], (0, 1), value=1.0) @ data["fundamental"][0].T
    d = (lines[:, :2] @ data["other_pixels"][0].T + lines[:, 2:]).abs() / lines[:, :2].norm(dim=-1, keepdim=True)
    slope = p * (d - (p * d).sum(-1, keepdim=True)) * data["weight"][0, :, None]
    expected = (slope[..., None] * (v[None] - u[:, None])).sum(1) / SIGMA**2
    torch.testing.assert_close(grad[0], expected, rtol=1e-8, atol=1e-8)


def test_expected_point_is_never_farther_than_the_expected_distance():
    data = problem(2, 80, 70, torch.float64, seed=7)
    for kind in ("point_line", "squared"):
        distance = call(expected_epipolar_distance, data, sigma=0.2, distance=kind).distance
        point = call(expected_point_distance, data, sigma=0.2, distance=kind).distance
        assert (point <= distance + 1e-9).all()
        assert point.sum() < 0.97 * distance.sum()


def test_a_clip_bounds_the_distance():
    data = problem(1, 50, 50, torch.float64)
    free = call(expected_epipolar_distance, data).distance
    clipped = call(expected_epipolar_distance, data, clip=5.0).distance
    assert free.max() > 5
    assert clipped.max() <= 5 + 1e-9
    assert call(expected_epipolar_distance, data, clip=5.0, distance="squared").distance.max() <= 25 + 1e-9


@pytest.mark.parametrize("engine", ["dense", "tiled"])
@pytest.mark.parametrize(("function", "options"), CASES, ids=NAMES)
@pytest.mark.parametrize("case", ["no rows", "no candidates", "rows masked", "candidates masked", "no images"])
def test_nothing_to_match(function, options, engine, case):
    data = problem(2, 0 if case == "no rows" else 6, 0 if case == "no candidates" else 5, torch.float32, parts=3)
    data["mask"][:] = case != "rows masked"
    data["other_mask"][:] = case != "candidates masked"
    if case == "no images":
        data = {key: value[:0] for key, value in data.items()}
    value, best, *gradients = value_and_gradients(function, data, engine=engine, **options)
    assert value.shape[:2] == data["pixels"].shape[:2]
    assert value.abs().sum() == 0
    assert best.abs().sum() == 0
    assert all(bool((gradient == 0).all()) for gradient in gradients)


@pytest.mark.parametrize("engine", ["dense", "tiled"])
def test_one_image_without_candidates_leaves_the_other_alone(engine):
    data = problem(2, 30, 20, torch.float64, parts=3)
    alone = value_and_gradients(
        expected_epipolar_distance, {key: value[1:] for key, value in data.items()}, engine=engine
    )
    data["other_mask"][0] = False
    both = value_and_gradients(expected_epipolar_distance, data, engine=engine)
    for single, pair in zip(alone, both, strict=True):
        torch.testing.assert_close(pair[1:], single)
        assert pair[0].abs().max() == 0


@pytest.mark.parametrize("engine", ["dense", "tiled"])
def test_masked_cells_may_hold_anything(engine):
    data = problem(1, 30, 20, torch.float32, parts=3)
    clean = value_and_gradients(expected_epipolar_distance, data, engine=engine)
    for key, mask in (
        ("field", "mask"),
        ("other_field", "other_mask"),
        ("parts", "mask"),
        ("other_parts", "other_mask"),
    ):
        data[key] = torch.where(data[mask].unsqueeze(-1), data[key], torch.nan)
    dirty = value_and_gradients(expected_epipolar_distance, data, engine=engine)
    for expected, found in zip(clean, dirty, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("engine", ["dense", "tiled"])
def test_small_sigma_and_distant_fields_stay_finite(engine):
    data = problem(1, 40, 30, torch.float32, parts=3)
    data["other_field"] = data["other_field"] + 5.0
    value, best, *gradients = value_and_gradients(expected_epipolar_distance, data, sigma=1e-4, engine=engine)
    assert torch.isfinite(value).all()
    assert value.abs().sum() > 0
    assert best.max() < 1e-30
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


@pytest.mark.parametrize("engine", ["dense", "tiled"])
def test_small_sigma_picks_the_nearest(engine):
    data = problem(1, 40, 40, torch.float32)
    del data["mask"], data["other_mask"]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    data["other_field"] = data["field"][:, order]
    data["pixels"][:, order] = data["other_pixels"]
    distance, best = call(expected_warp_distance, data, sigma=1e-4, engine=engine)
    torch.testing.assert_close(distance, torch.zeros_like(distance), atol=1e-3, rtol=0)
    assert (best > 0.999).all()


@pytest.mark.parametrize("engine", ["dense", "tiled"])
@pytest.mark.parametrize("distance", EPIPOLAR)
@pytest.mark.parametrize("function", [expected_epipolar_distance, expected_point_distance])
def test_degenerate_lines_stay_finite(function, distance, engine):
    data = problem(2, 10, 10, torch.float32)
    data["fundamental"][0] = 0
    epipole = torch.linalg.cross(torch.eye(3)[2], torch.tensor([0.3, -0.8, 0.0]))  # a line at infinity for every pixel
    data["fundamental"][1] = torch.outer(torch.tensor([0.0, 0.0, 1.0]), epipole)
    for tensor in value_and_gradients(function, data, distance=distance, engine=engine):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("engine", ["dense", "tiled"])
def test_disagreeing_parts_do_not_match(engine):
    data = problem(1, 10, 10, torch.float32, parts=2)
    data["other_field"] = data["field"].clone()
    data["parts"] = torch.tensor([1.0, 0.0]).expand(1, 10, 2)
    data["other_parts"] = torch.tensor([0.0, 1.0]).expand(1, 10, 2)
    results = value_and_gradients(expected_epipolar_distance, data, engine=engine)
    assert results[1].max() < 1e-10
    assert all(bool(torch.isfinite(tensor).all()) for tensor in results)


@pytest.mark.parametrize("engine", ["dense", "tiled"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_promoted(engine, dtype):
    data = problem(1, 20, 20, torch.float32)
    low = {**data, "field": data["field"].to(dtype), "other_field": data["other_field"].to(dtype)}
    high = {**low, "field": low["field"].float(), "other_field": low["other_field"].float()}
    value, _, grad, _ = value_and_gradients(expected_epipolar_distance, low, engine=engine)
    expected, _, expected_grad, _ = value_and_gradients(expected_epipolar_distance, high, engine=engine)
    assert value.dtype == torch.float32
    assert grad.dtype == dtype
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(grad.float(), expected_grad, rtol=1e-2, atol=1e-2 * float(expected_grad.abs().max()))


@pytest.mark.parametrize("engine", ["dense", "tiled"])
def test_autocast_changes_nothing(engine):
    data = problem(1, 40, 30, torch.float32, parts=3)
    expected = value_and_gradients(expected_epipolar_distance, data, engine=engine)
    leaves = {key: data[key].requires_grad_() for key in ("field", "other_field", "parts", "other_parts")}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, best = call(expected_epipolar_distance, data, engine=engine)
    found = [value, best, *torch.autograd.grad((value * data["weight"]).sum(), list(leaves.values()))]
    for one, two in zip(expected, found, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_reduced_matmul_precision_changes_little(precision):
    data = problem(1, 200, 200, torch.float32)
    expected = value_and_gradients(expected_epipolar_distance, data, engine="tiled")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        found = value_and_gradients(expected_epipolar_distance, data, engine="tiled")
    finally:
        torch.set_float32_matmul_precision(before)
    for one, two in zip(expected, found, strict=True):
        assert (one - two).abs().max() <= 1e-4 * one.abs().max()


def test_best_matchability_carries_no_gradient():
    for engine in ("dense", "tiled"):
        data = problem(1, 5, 5, torch.float32)
        data["field"].requires_grad_()
        assert not call(expected_epipolar_distance, data, engine=engine).max_matchability.requires_grad
        assert call(expected_epipolar_distance, data, engine=engine).distance.requires_grad


def test_wrong_arguments_are_refused():
    data = problem(1, 4, 4, torch.float32, parts=2)
    with pytest.raises(ValueError, match="engine"):
        call(expected_epipolar_distance, data, engine="fast")
    with pytest.raises(ValueError, match="distance"):
        call(expected_epipolar_distance, data, distance="manhattan")
    with pytest.raises(ValueError, match="sigma"):
        call(expected_epipolar_distance, data, sigma=0.0)
    with pytest.raises(ValueError, match="one view only"):
        call(expected_epipolar_distance, data, other_parts=None)
    with pytest.raises(ValueError, match="mask"):
        call(expected_epipolar_distance, data, mask=data["mask"][:, :2])
    with pytest.raises(ValueError, match="channels"):
        call(expected_epipolar_distance, {**data, "field": data["field"][..., :2]})


MEMORY_SCRIPT = """
import resource, torch
from dkp.losses import expected_epipolar_distance
n = {count}
def run(n):
    u, v = torch.rand(1, n, 3, requires_grad=True), torch.rand(1, n, 3, requires_grad=True)
    x, y = torch.rand(1, n, 2) * 512, torch.rand(1, n, 2) * 512
    expected_epipolar_distance(u, v, x, y, torch.rand(1, 3, 3), 0.05, engine="tiled").distance.sum().backward()
run(64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(n)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_of_the_tiled_engine():
    script = MEMORY_SCRIPT.format(count=16384)
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    unit = 1 if sys.platform == "darwin" else 1024
    grown = int(output) * unit / 1e6
    assert grown < 300, f"{grown:.0f} MB; one matrix of all pairs would take {16384**2 * 4 / 1e6:.0f} MB"
