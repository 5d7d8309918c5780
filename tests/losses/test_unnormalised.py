"""The loss without normalisation is its formula, and has the flaw that it is there to show."""

import torch

from dkp.fields import EmbeddingField
from dkp.geometry import Camera, fundamental_matrix, pairwise_epipolar_distance
from dkp.losses import MultiviewTerm, UnnormalisedMultiviewTerm

CELLS, STRIDE, SIGMA = 6, 2, 0.05


def pair():
    """Random fields of two cameras, all foreground, and their fundamental matrix."""
    generator = torch.Generator().manual_seed(0)
    size = torch.full((2, 2), float(CELLS * STRIDE))
    translation = torch.tensor([[0.0, 0.0, 2.0], [0.4, 0.1, 2.0]])
    intrinsics = torch.tensor([[12.0, 0, 6], [0, 12.0, 6], [0, 0, 1]]).expand(2, 3, 3)
    camera = Camera.create(intrinsics, translation=translation, image_size=size)
    coordinate = 0.1 * torch.rand(2, 3, CELLS, CELLS, generator=generator)
    field = EmbeddingField(torch.full((2, CELLS, CELLS), 5.0), coordinate, STRIDE)
    return field[:1], field[1:], fundamental_matrix(camera[:1], camera[1:])


def test_it_is_the_sum_over_candidates():
    first, second, fundamental = pair()
    sums = []
    for one, two, matrix in ((first, second, fundamental), (second, first, fundamental.mT)):
        pixels, others = (field.pixels().reshape(1, -1, 2) for field in (one, two))
        u, v = (field.coordinate.flatten(2).mT for field in (one, two))
        matchability = torch.exp(-(torch.cdist(u, v) ** 2) / (2 * SIGMA**2))
        distance = pairwise_epipolar_distance(pixels, others, matrix)
        sums.append((matchability * distance).sum(-1).mean())
    loss = UnnormalisedMultiviewTerm(sigma=SIGMA, clip=None, visibility_threshold=0.0, normalisation=1.0).loss
    torch.testing.assert_close(loss(first, second, fundamental).value, torch.stack(sums).mean(), rtol=1e-4, atol=1e-5)


def test_destroyed_matches_score_nothing_where_the_normalised_loss_is_large():
    first, second, fundamental = pair()
    apart = EmbeddingField(second.foreground, second.coordinate + 0.4, STRIDE)
    options = {"visibility_threshold": 0.0, "normalisation": 1.0}
    assert UnnormalisedMultiviewTerm(sigma=SIGMA, **options).loss(first, apart, fundamental).value < 1e-3
    assert MultiviewTerm(sigma=SIGMA, **options).loss(first, apart, fundamental).value > 0.5
