"""dkp/metrics/consistency.py against NumPy and against scenes with known geometry."""

import itertools

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.metrics.consistency import MultiviewConsistency, mutual_matches, trivial_coordinate

SIZE = 64


def ring(views=3, size=SIZE):
    """Cameras on a ring around the origin, looking at it from 2 m above; world z is up."""
    rotations, translations = [], []
    for turn in np.linspace(0, np.pi, views, endpoint=False):
        centre = np.array([2.5 * np.cos(turn), 2.5 * np.sin(turn), 2.0])
        ahead = -centre / np.linalg.norm(centre)
        right = np.cross(ahead, [0, 0, 1])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(ahead, right), ahead])
        rotations.append(rotation)
        translations.append(-rotation @ centre)
    intrinsics = np.array([[size * 2.3, 0, size / 2], [0, size * 2.3, size / 2], [0, 0, 1.0]])
    return Camera.create(
        torch.tensor(intrinsics, dtype=torch.float32).expand(1, views, 3, 3),
        torch.tensor(np.array(rotations), dtype=torch.float32)[None],
        torch.tensor(np.array(translations), dtype=torch.float32)[None],
        image_size=torch.tensor([float(size), float(size)]).expand(1, views, 2),
    )


def exact_field(camera, cells):
    """What each cell sees of a disc of radius 0.5 m in the plane z = 0: its position there. Foreground is the disc."""
    step = SIZE / cells
    at = (torch.arange(cells) + 0.5) * step
    pixels = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1).reshape(-1, 2)
    origin, rays = camera.centre(), camera.rays(pixels.expand(*camera.shape, -1, 2))
    points = origin[..., None, :] - rays * (origin[..., None, 2:] / rays[..., 2:])
    inside = points.norm(dim=-1) < 0.5
    field = points.mT.unflatten(-1, (cells, cells))
    return field, inside.float().unflatten(-1, (cells, cells))


def all_pairs(batch, views):
    return torch.tensor(list(itertools.combinations(range(views), 2))).expand(batch, -1, 2)


def random_scene(seed, views=3, cells=16):
    rng = torch.Generator().manual_seed(seed)
    camera = ring(views)
    field, inside = exact_field(camera, cells)
    field = field + 0.04 * torch.randn(field.shape, generator=rng)
    foreground = inside * (0.3 + 0.7 * torch.rand(inside.shape, generator=rng))
    pairs = all_pairs(1, views)
    return field, foreground, camera, pairs, torch.rand(pairs.shape[:2], generator=rng) > 0.2


def fundamental(camera, i, j):
    """F from the projection matrices, in float64: x'ᵀ F x = 0."""
    k, r, t = (getattr(camera, name)[0].double().numpy() for name in ("intrinsics", "rotation", "translation"))
    turn = r[j] @ r[i].T
    x, y, z = t[j] - turn @ t[i]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ turn
    return np.linalg.inv(k[j]).T @ essential @ np.linalg.inv(k[i])


def line_distance(fundamental, x, y):
    line = fundamental @ np.array([*x, 1.0])
    return abs(line @ np.array([*y, 1.0])) / np.hypot(line[0], line[1])


def reference(batches, gate, resolution, trivial=False):
    """The metric pixel by pixel: distances by pair, matched and all pixels by pair."""
    distances, matched, pixels = {}, {}, {}
    for field, foreground, camera, pairs, valid in batches:
        cells = field.shape[-1]
        step = SIZE / cells
        for (i, j), used in zip(pairs[0].tolist(), valid[0].tolist(), strict=True):
            if not used:
                continue
            seen = []
            for view in (i, j):
                where = np.argwhere(foreground[0, view].numpy() > 0.5)
                values = np.array([field[0, view, :, r, c].double().numpy() for r, c in where]).reshape(-1, 3)
                if trivial:
                    values = where / cells  # an extent of 1 m
                seen.append((where[:, ::-1] * step + step / 2, values))
            (at, u), (other_at, v) = seen
            gap = np.linalg.norm(u[:, None] - v[None], axis=-1)
            own = distances.setdefault((i, j), [])
            for a, b in enumerate(gap.argmin(axis=1)):
                if gap[:, b].argmin() == a and gap[a, b] <= gate:
                    f = fundamental(camera, i, j)
                    both = line_distance(f, at[a], other_at[b]) + line_distance(f.T, other_at[b], at[a])
                    own.append(both / 2 * resolution / SIZE)
                    matched[i, j] = matched.get((i, j), 0) + 2
            pixels[i, j] = pixels.get((i, j), 0) + len(at) + len(other_at)
    return distances, matched, pixels


def check(found, prefix, distances, matched, pixels):
    assert found[f"{prefix}epipolar_median_px"].item() == pytest.approx(np.median(distances), rel=1e-3, abs=1e-3)
    assert found[f"{prefix}epipolar_mean_px"].item() == pytest.approx(np.mean(distances), rel=1e-3, abs=1e-3)
    assert found[f"{prefix}epipolar_p90_px"].item() == pytest.approx(np.quantile(distances, 0.9), rel=1e-3, abs=1e-3)
    assert found[f"{prefix}matched_share"].item() == pytest.approx(matched / pixels, rel=1e-5)


@pytest.mark.parametrize("trivial", [False, True])
def test_against_numpy(trivial):
    batches = [random_scene(seed) for seed in range(3)]
    gate = 0.05  # less than a cell of the trivial field, whose neighbours would tie
    metric = MultiviewConsistency(gate=gate, extent=1.0, resolution=100)
    for batch in batches:
        metric.update(*batch)
    found = metric.compute()
    distances, matched, pixels = reference(batches, gate, 100, trivial)
    key = "trivial/" if trivial else ""
    check(found, key, [d for own in distances.values() for d in own], sum(matched.values()), sum(pixels.values()))
    for i, j in distances:
        check(found, f"{key}pair/{i}-{j}/", distances[i, j], matched[i, j], pixels[i, j])


def test_many_instants_at_once_equal_one_by_one():
    batches = [random_scene(seed) for seed in range(4)]
    single, together = MultiviewConsistency(), MultiviewConsistency()
    for batch in batches:
        single.update(*batch)
    fields, foregrounds, cameras, pairs, valid = zip(*batches, strict=True)
    together.update(
        torch.cat(fields),
        torch.cat(foregrounds),
        Camera.stack([c[0] for c in cameras]),
        torch.cat(pairs),
        torch.cat(valid),
    )
    expected = {name: value.item() for name, value in single.compute().items()}
    assert {name: value.item() for name, value in together.compute().items()} == pytest.approx(expected, rel=1e-4)


def test_exact_field_is_consistent_to_a_cell_and_exchanged_views_are_not():
    camera = ring()
    field, inside = exact_field(camera, 32)
    values = {}
    for name, order in (("right", [0, 1, 2]), ("wrong", [1, 2, 0])):
        metric = MultiviewConsistency()
        metric.update(field, inside, camera[:, order], all_pairs(1, 3))
        values[name] = metric.compute()
    assert values["right"]["epipolar_median_px"] < 2  # a cell is 4 px at 128 px
    assert values["right"]["matched_share"] > 0.6
    assert values["wrong"]["epipolar_median_px"] > 4 * values["right"]["epipolar_median_px"]
    assert values["right"]["trivial/epipolar_median_px"] > 2 * values["right"]["epipolar_median_px"]


def test_the_resolution_is_that_of_the_image_not_of_the_field():
    camera = ring()
    values = []
    for cells in (24, 48):
        field, inside = exact_field(camera, cells)
        metric = MultiviewConsistency(resolution=128)
        metric.update(field, inside, camera[:, [1, 2, 0]], all_pairs(1, 3))
        values.append(metric.compute()["epipolar_median_px"].item())
    assert values[0] == pytest.approx(values[1], rel=0.3)
    finer = MultiviewConsistency(resolution=256)
    finer.update(field, inside, camera[:, [1, 2, 0]], all_pairs(1, 3))
    assert finer.compute()["epipolar_median_px"].item() == pytest.approx(2 * values[1], rel=1e-5)


@pytest.mark.filterwarnings("ignore:.*found no match")
def test_gate_and_collapse_show_in_the_matched_share():
    camera = ring()
    field, inside = exact_field(camera, 32)
    shares = {}
    for name, changed in {
        "exact": field,
        "apart": field + torch.tensor([0.0, 10.0, 20.0])[:, None, None, None],
        "constant": torch.zeros_like(field),
    }.items():
        metric = MultiviewConsistency()
        metric.update(changed, inside, camera, all_pairs(1, 3))
        shares[name] = metric.compute()["matched_share"]
    assert shares["exact"] > 0.4
    assert shares["apart"] == 0
    assert 0 < shares["constant"] < 0.05


def test_nothing_matched_is_nan_and_says_so():
    camera = ring()
    field, inside = exact_field(camera, 8)
    metric = MultiviewConsistency(per_pair=False)
    metric.update(field, 0 * inside, camera, all_pairs(1, 3))
    with pytest.warns(UserWarning, match="no match"):
        value = metric.compute()
    assert value["epipolar_mean_px"].isnan()


def test_no_valid_pair_adds_nothing():
    batch = random_scene(0)
    metric = MultiviewConsistency()
    metric.update(*batch)
    before = metric.compute()
    metric.update(*batch[:4], torch.zeros_like(batch[4]))
    assert metric.compute() == before


def test_cameras_by_name_whatever_their_place():
    field, foreground, camera, pairs, _ = random_scene(0)
    named = MultiviewConsistency(cameras=["front", "side", "back"])
    named.update(field, foreground, camera, pairs, None, [["front", "side", "back"]])
    order = [2, 0, 1]
    moved = MultiviewConsistency(cameras=["front", "side", "back"])
    moved.update(field[:, order], foreground[:, order], camera[:, order], pairs, None, [["back", "front", "side"]])
    expected = {name: value.item() for name, value in named.compute().items()}
    assert "pair/front-back/epipolar_median_px" in expected
    assert {name: value.item() for name, value in moved.compute().items()} == pytest.approx(expected, rel=1e-4)


def test_bad_input():
    field, foreground, camera, pairs, _ = random_scene(0)
    with pytest.raises(InputError, match="'left'"):
        MultiviewConsistency(cameras=["a", "b", "c"]).update(
            field, foreground, camera, pairs, None, [["a", "b", "left"]]
        )
    with pytest.raises(InputError, match="gate"):
        MultiviewConsistency(gate=0)
    bent = Camera.create(
        camera.intrinsics, camera.rotation, camera.translation, torch.tensor([0.1, 0, 0, 0, 0]), camera.image_size
    )
    with pytest.raises(InputError, match="distortion"):
        MultiviewConsistency().update(field, foreground, bent, pairs)


@pytest.mark.parametrize("seed", range(4))
def test_mutual_matches_against_numpy(seed):
    rng = np.random.default_rng(seed)
    u, v = rng.normal(size=(30, 3)), rng.normal(size=(40, 3))
    gap = np.linalg.norm(u[:, None] - v[None], axis=-1)
    expected = [
        [i, gap[i].argmin()] for i in range(30) if gap[i].min() <= 0.6 and gap[:, gap[i].argmin()].argmin() == i
    ]
    assert mutual_matches(cKDTree(u), cKDTree(v), gate=0.6).tolist() == expected
    assert len(expected) > 3


def test_mutual_matches_at_the_gate_and_of_nothing():
    assert len(mutual_matches(cKDTree([[0.0]]), cKDTree([[0.5]]), gate=0.5)) == 1
    assert len(mutual_matches(cKDTree([[0.0]]), cKDTree([[0.5]]), gate=0.4999)) == 0
    assert mutual_matches(cKDTree(np.zeros((0, 3))), cKDTree([[0.0, 0.0, 0.0]]), gate=0.5).shape == (0, 2)


def test_trivial_coordinate_spans_the_extent():
    field = trivial_coordinate(50, 100, extent=2.0)
    assert field.shape == (3, 50, 100)
    assert field[0].amax().item() == pytest.approx(0.99)
    assert field[1].amin().item() == pytest.approx(-0.98)


def test_two_processes(assert_same_in_two_processes):
    assert_same_in_two_processes(lambda: MultiviewConsistency(max_points=40), [random_scene(seed) for seed in range(3)])
