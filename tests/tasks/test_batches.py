import pytest
import torch

from dkp.batches import flatten_views, view_pairs
from dkp.geometry import Camera, fundamental_matrix


def test_pairs_are_flat_indices_with_their_fundamental_matrices(plane_batch):
    batch = plane_batch(2)
    pairs = view_pairs(batch)
    assert pairs.first.tolist() == [0, 0, 1, 3, 3, 4]
    assert pairs.second.tolist() == [1, 2, 2, 4, 5, 5]
    expected = fundamental_matrix(batch["camera"][1, 0], batch["camera"][1, 2])
    torch.testing.assert_close(pairs.fundamental[4], expected)


def test_flattened_views_match_the_flat_indices(plane_batch):
    batch = plane_batch(2)
    pairs = view_pairs(batch)
    assert torch.equal(flatten_views(batch)[pairs.second[4]], batch["image"][1, 2])


def test_exact_correspondences_lie_on_the_epipolar_lines(plane_batch):
    batch = plane_batch(1)
    pairs = view_pairs(batch)
    points = torch.tensor([[[0.0, 0.0, 0.0], [0.1, -0.05, 0.0], [-0.1, 0.1, 0.0]]])
    camera = batch["camera"].reshape(3)
    first, second = (torch.nn.functional.pad(camera[i].project(points)[0], (0, 1), value=1.0) for i in (0, 2))
    residual = torch.einsum("bni,bij,bnj->bn", second, pairs.fundamental[1:2], first)
    swapped = torch.einsum("bni,bij,bnj->bn", first, pairs.fundamental[1:2], second)
    assert residual.abs().max() < 1e-3
    assert swapped.abs().max() > 10 * residual.abs().max()


def test_invalid_pairs_and_pairs_of_absent_views_are_left_out(plane_batch):
    batch = plane_batch(2)
    batch["pair_valid"][0, 0] = False
    batch["present"][1, 2] = False
    pairs = view_pairs(batch)
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(0, 2), (1, 2), (3, 4)]


def test_no_pair_at_all_gives_empty_lists(plane_batch):
    batch = plane_batch(1)
    batch["pair_valid"][:] = False
    pairs = view_pairs(batch)
    assert len(pairs) == 0
    assert pairs.fundamental.shape == (0, 3, 3)


@pytest.mark.parametrize("fault", ["one place", "not a number"])
def test_pairs_without_epipolar_lines_are_left_out_and_counted(plane_batch, fault):
    batch = plane_batch(2)
    camera = batch["camera"]
    changed = Camera.create(
        camera.intrinsics.clone(), camera.rotation.clone(), camera.translation.clone(), image_size=camera.image_size
    )
    if fault == "one place":
        changed.rotation[0, 1], changed.translation[0, 1] = camera.rotation[0, 0], camera.translation[0, 0]
    else:
        changed.intrinsics[0, 1, 0, 0] = torch.nan
    with pytest.warns(UserWarning, match=r"left out \d of 6 pairs"):
        pairs = view_pairs(batch | {"camera": changed})
    left = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert left == ([(0, 2), (1, 2)] if fault == "one place" else [(0, 2)]) + [(3, 4), (3, 5), (4, 5)]
    assert pairs.fundamental.isfinite().all()
