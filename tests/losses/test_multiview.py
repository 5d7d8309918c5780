"""The multiview, consensus, silhouette and warp losses on an exactly known scene, and what they cannot see."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from dkp.fields import ChartAtlas, ChartField, EmbeddingField
from dkp.geometry import Camera, eligible_pairs, epipole, fundamental_matrix, pixel_grid
from dkp.losses import (
    ConsensusTerm,
    LabelledTerm,
    LossValue,
    MultiviewTerm,
    SilhouetteTerm,
    TemporalTerm,
    consistent_mean,
    epipolar_residuals,
    epipolar_support,
    expected_epipolar_distance,
    warp_from_affine,
    warp_from_flow,
)

SIZE, STRIDE = 128, 4
RADII = torch.tensor([0.35, 0.25, 0.6])


def camera_at(angle: float, height: float = 0.6, radius: float = 3.0) -> Camera:
    """A camera on a circle [degrees] around the origin, looking at it, y down."""
    turn = math.radians(angle)
    position = torch.tensor([radius * math.cos(turn), radius * math.sin(turn), height])
    forward = -position / position.norm()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0]))
    right = right / right.norm()
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    intrinsics = torch.tensor([[240.0, 0, SIZE / 2], [0, 240.0, SIZE / 2], [0, 0, 1]])
    return Camera.create(intrinsics, rotation, -rotation @ position, None, (SIZE, SIZE))


def exact_field(camera: Camera) -> EmbeddingField:
    """What a perfect detector says about an ellipsoid that stands still in its rest pose."""
    cells = SIZE // STRIDE
    rays = camera.rays(pixel_grid(cells, cells, STRIDE).reshape(-1, 2)) / RADII
    origin = camera.centre() / RADII
    a, b, c = rays.square().sum(-1), (rays * origin).sum(-1), origin.square().sum() - 1
    root = b.square() - a * c
    distance = (-b - root.clamp_min(0).sqrt()) / a
    coordinate = (origin + distance[:, None] * rays) * RADII
    hit = root > 0
    coordinate = torch.where(hit[:, None], coordinate, torch.zeros_like(coordinate))
    logits = torch.where(hit, 8.0, -8.0)
    return EmbeddingField(logits.view(1, cells, cells), coordinate.T.reshape(1, 3, cells, cells), STRIDE)


LEFT, RIGHT = camera_at(0), camera_at(45, 0.9)
MATRIX = fundamental_matrix(LEFT, RIGHT)[None]


def changed(field: EmbeddingField, function) -> EmbeddingField:
    """The field with a function applied to its coordinates (1, 3, H, W)."""
    return EmbeddingField(field.foreground, function(field.coordinate), field.stride)


def distance_of(loss: Callable[..., LossValue], left: EmbeddingField, right: EmbeddingField) -> float:
    """Mean expected distance over the visible cells [px]."""
    return loss(left, right, MATRIX).parts["distance"].item()


def test_the_exact_field_scores_about_a_cell():
    term = MultiviewTerm(sigma=0.02).loss(exact_field(LEFT), exact_field(RIGHT), MATRIX)
    assert term.parts["distance"] < STRIDE / 2
    assert term.value.item() == pytest.approx(term.parts["distance"].item() / 10)
    assert 0.4 < term.valid_share < 1  # the far sides are not seen by both


@pytest.mark.parametrize("kind", ["expected_distance", "expected_point"])
@pytest.mark.parametrize("distance", ["point_line", "squared", "sampson"])
def test_errors_across_the_lines_raise_the_loss(kind, distance):
    loss = MultiviewTerm(sigma=0.02, kind=kind, distance=distance).loss
    left, right = exact_field(LEFT), exact_field(RIGHT)
    shifted = changed(right, lambda u: u + torch.tensor([0.0, 0.0, 0.08]).view(1, 3, 1, 1))
    assert loss(left, shifted, MATRIX).value > 2 * loss(left, right, MATRIX).value


def test_views_are_symmetric():
    left, right = exact_field(LEFT), exact_field(RIGHT)
    loss = MultiviewTerm(sigma=0.02).loss
    assert loss(left, right, MATRIX).value.item() == pytest.approx(loss(right, left, MATRIX.mT).value.item(), rel=1e-5)
    assert loss(left, right, MATRIX).value.item() != pytest.approx(loss(right, left, MATRIX).value.item(), rel=1e-2)


def test_descent_moves_a_shifted_field_back():
    left = exact_field(LEFT)
    offset = torch.tensor([0.0, 0.0, 0.06], requires_grad=True)
    loss = MultiviewTerm(sigma=0.05).loss
    optimiser = torch.optim.SGD([offset], lr=2e-3)
    first = None
    for _ in range(40):
        term = loss(left, changed(exact_field(RIGHT), lambda u: u + offset.view(1, 3, 1, 1)), MATRIX)
        first = term.value.item() if first is None else first
        optimiser.zero_grad()
        term.value.backward()
        optimiser.step()
    assert term.value.item() < 0.7 * first
    assert abs(offset[2].item()) < 0.03


# ------------------------------------------------------------------------------------------------- what goes wrong


def test_destroyed_matches_do_not_win():
    """Degeneracy 1: an unnormalised error is least for disjoint fields; the gated, normalised one does not fire."""
    left, right = exact_field(LEFT), exact_field(RIGHT)
    apart = changed(right, lambda u: u + 10.0)
    loss = MultiviewTerm(sigma=0.02).loss
    term = loss(left, apart, MATRIX)
    assert term.valid_share == 0
    assert term.value == 0
    assert loss(left, right, MATRIX).valid_share > 0.4
    # The unnormalised error M ⊙ d of the same fields, summed, would prefer them.
    inside = left.foreground[0] > 0
    u, other = left.coordinate[0][:, inside].T, apart.coordinate[0][:, right.foreground[0] > 0].T
    matchability = (-torch.cdist(u, other).square() / (2 * 0.02**2)).exp()
    assert matchability.sum() == 0
    # Without the gate, the normalised distance is much worse than that of the exact fields.
    ungated = MultiviewTerm(sigma=0.02, visibility_threshold=-1.0).loss
    assert ungated(left, apart, MATRIX).value > 2 * ungated(left, right, MATRIX).value


def test_stretching_lowers_the_floor():
    """Degeneracy 2: the loss of the exact field grows with sigma, and a stretched field scores better."""
    left, right = exact_field(LEFT), exact_field(RIGHT)
    floors = [distance_of(MultiviewTerm(sigma=sigma).loss, left, right) for sigma in (0.01, 0.03, 0.1)]
    assert floors == sorted(floors)
    assert floors[2] > 2 * floors[0]
    stretched = [changed(field, lambda u: 2 * u) for field in (left, right)]
    loss = MultiviewTerm(sigma=0.05).loss
    assert distance_of(loss, *stretched) < 0.8 * distance_of(loss, left, right)
    labelled = LabelledTerm().loss
    label = {"foreground": left.foreground > 0, "coordinate": left.coordinate}
    assert labelled(stretched[0], **label).value > labelled(left, **label).value + 1


def test_a_field_that_knows_only_the_line_scores_like_the_exact_one():
    """Degeneracy 3a: coordinate = angle of the epipolar plane; labels or a camera off their ring see through it."""
    left, right = exact_field(LEFT), exact_field(RIGHT)
    third, centre = camera_at(0, 2.5), LEFT.centre()  # the third one straight above: other line directions
    axis = torch.nn.functional.normalize(RIGHT.centre() - centre, dim=0)
    e1 = torch.nn.functional.normalize(torch.linalg.cross(axis, torch.tensor([0.3, 0.2, 1.0])), dim=0)
    e2 = torch.linalg.cross(axis, e1)

    def line_only(coordinate: Tensor) -> Tensor:
        local = coordinate - centre.view(1, 3, 1, 1)
        one, two = (local * e1.view(1, 3, 1, 1)).sum(1), (local * e2.view(1, 3, 1, 1)).sum(1)
        angle = torch.atan2(two, one)
        return torch.stack([3 * angle, torch.zeros_like(angle), torch.zeros_like(angle)], 1)

    loss = MultiviewTerm(sigma=0.05).loss
    collapsed = [changed(field, line_only) for field in (left, right)]
    assert distance_of(loss, *collapsed) < 1.1 * distance_of(loss, left, right)
    assert loss(*collapsed, MATRIX).valid_share > 0.9
    label = {"foreground": left.foreground > 0, "coordinate": left.coordinate}
    assert LabelledTerm().loss(collapsed[0], **label).value > LabelledTerm().loss(left, **label).value + 1
    matrix = fundamental_matrix(LEFT, third)[None]
    other = exact_field(third)
    exact = loss(left, other, matrix).parts["distance"]
    assert loss(collapsed[0], changed(other, line_only), matrix).parts["distance"] > 2 * exact


def test_a_mirrored_field_scores_like_the_exact_one():
    """Degeneracy 3b: left and right exchanged consistently costs nothing; only labels or a teacher see it."""
    left, right = exact_field(LEFT), exact_field(RIGHT)
    mirrored = [
        changed(field, lambda u: u * torch.tensor([1.0, -1.0, 1.0]).view(1, 3, 1, 1)) for field in (left, right)
    ]
    loss = MultiviewTerm(sigma=0.05, max_pixels=10_000).loss
    assert distance_of(loss, *mirrored) == pytest.approx(distance_of(loss, left, right), rel=1e-4)
    label = {"foreground": left.foreground > 0, "coordinate": left.coordinate}
    assert LabelledTerm().loss(mirrored[0], **label).value > LabelledTerm().loss(left, **label).value + 0.5


def test_opposite_cameras_teach_nothing_and_are_not_paired():
    """Degeneracy 4: the epipole lies inside the image, no surface is shared."""
    front, back = camera_at(0, 0.0), camera_at(180, 0.0)
    assert ((epipole(front, back) > 0) & (epipole(front, back) < SIZE)).all()
    cameras = Camera.stack([front, back, RIGHT])
    assert eligible_pairs(cameras, torch.zeros(3), max_angle=181).tolist() == [[0, 2], [1, 2]]
    term = MultiviewTerm(sigma=0.02).loss(exact_field(front), exact_field(back), fundamental_matrix(front, back)[None])
    paired = MultiviewTerm(sigma=0.02).loss(
        exact_field(front), exact_field(RIGHT), fundamental_matrix(front, RIGHT)[None]
    )
    assert term.valid_share < 0.3 * paired.valid_share


# -------------------------------------------------------------------------------------------------------- consensus


def problem(seed: int, rows: int = 23, columns: int = 17, batch: int = 2) -> dict[str, Tensor]:
    """A random matching problem with masks."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "field": torch.rand(batch, rows, 3, generator=generator) * 0.3,
        "other_field": torch.rand(batch, columns, 3, generator=generator) * 0.3,
        "pixels": torch.rand(batch, rows, 2, generator=generator) * SIZE,
        "other_pixels": torch.rand(batch, columns, 2, generator=generator) * SIZE,
        "fundamental": MATRIX.expand(batch, 3, 3),
        "mask": torch.rand(batch, rows, generator=generator) > 0.2,
        "other_mask": torch.rand(batch, columns, generator=generator) > 0.2,
    }


@pytest.mark.parametrize("block", [1 << 22, 40])
def test_the_consistent_mean_is_the_written_out_one(monkeypatch, block):
    monkeypatch.setattr("dkp.losses.consensus.BLOCK", block)
    given = problem(0)
    mean, support = consistent_mean(**given, sigma=0.1, radius=20.0)
    for b in range(2):
        for i in range(23):
            homogeneous = torch.cat([given["pixels"][b, i], torch.ones(1)])
            line = MATRIX[0] @ homogeneous
            weights = torch.zeros(17, dtype=torch.float64)
            for j in torch.nonzero(given["other_mask"][b]).flatten().tolist():
                x, y = given["other_pixels"][b, j]
                distance = (line[0] * x + line[1] * y + line[2]).abs() / line[:2].norm()
                gap = (given["field"][b, i] - given["other_field"][b, j]).square().sum()
                weights[j] = math.exp(-gap / (2 * 0.1**2) - distance.square() / (2 * 20.0**2))
            expected = (weights[:, None] * given["other_field"][b]).sum(0) / weights.sum()
            assert support[b, i].item() == pytest.approx(weights.max().item() * given["mask"][b, i].item(), abs=1e-4)
            if not given["mask"][b, i]:
                assert mean[b, i].abs().max() == 0
            elif weights.max() > 1e-3:
                assert mean[b, i].tolist() == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(0, 4), (4, 0), (4, 4)])
def test_without_candidates_nothing_is_supported(rows, columns):
    given = problem(1, rows, columns)
    given["other_mask"] = torch.zeros_like(given["other_mask"])
    given["other_field"] = torch.full_like(given["other_field"], torch.nan)
    mean, support = consistent_mean(**given, sigma=0.1, radius=20.0)
    assert mean.isfinite().all()
    assert mean.shape == given["field"].shape
    assert (support == 0).all()


def test_the_consensus_sees_a_disagreement_that_the_multiview_loss_does_not():
    """One view's coordinates lie off the surface by less than sigma: the order of the candidates stays."""
    left, right = exact_field(LEFT), exact_field(RIGHT)
    inflated = changed(right, lambda u: 1.12 * u)
    multiview, consensus = MultiviewTerm(sigma=0.05).loss, ConsensusTerm(sigma=0.05).loss
    assert distance_of(multiview, left, inflated) < 1.1 * distance_of(multiview, left, right)
    assert consensus(left, inflated, MATRIX).value > 1.5 * consensus(left, right, MATRIX).value


def test_the_consensus_pulls_disagreeing_views_together():
    torch.manual_seed(0)
    loss = ConsensusTerm(sigma=0.1, max_pixels=10_000).loss
    exact = exact_field(LEFT), exact_field(RIGHT)
    noise = [(0.05 * torch.randn(3)).view(1, 3, 1, 1) for _ in exact]
    fields = [changed(field, lambda u, e=error: u + e) for field, error in zip(exact, noise, strict=True)]
    first = loss(*fields, MATRIX)
    assert 0.4 < first.valid_share <= 1
    for field in fields:
        field.coordinate.requires_grad_()
    loss(*fields, MATRIX).value.backward()
    step = 300.0
    moved = [changed(field, lambda u, g=field.coordinate.grad: (u - step * g).detach()) for field in fields]
    after = loss(*moved, MATRIX)
    assert after.value < first.value
    assert after.parts["difference"] < first.parts["difference"]


def test_a_consensus_of_unrelated_fields_does_not_fire():
    left = exact_field(LEFT)
    left.coordinate.requires_grad_()
    term = ConsensusTerm(sigma=0.02).loss(left, changed(exact_field(RIGHT), lambda u: u + 10.0), MATRIX)
    assert term.valid_share == 0
    term.value.backward()
    assert (left.coordinate.grad == 0).all()


# ---------------------------------------------------------------------------------------------------------- batches


def stack(*fields: EmbeddingField) -> EmbeddingField:
    """One batch of several fields."""
    return EmbeddingField(
        torch.cat([field.foreground for field in fields]), torch.cat([field.coordinate for field in fields]), STRIDE
    )


@pytest.mark.parametrize("case", ["no pair", "no foreground"])
def test_nothing_valid_gives_a_zero_with_a_graph(case):
    left, right = exact_field(LEFT), exact_field(RIGHT)
    leaf = left.coordinate.requires_grad_()
    left.foreground.requires_grad_()
    matrix = MATRIX
    if case == "no pair":
        left, right, matrix = left[:0], right[:0], MATRIX[:0]
    else:
        left = EmbeddingField(left.foreground * 0 - 5, left.coordinate, STRIDE)
        right = EmbeddingField(right.foreground * 0 - 5, right.coordinate, STRIDE)
    for term in (MultiviewTerm().loss(left, right, matrix), SilhouetteTerm().loss(left, right, matrix)):
        assert term.value == 0
        assert term.valid_share == 0
        term.value.backward()
    assert leaf.grad is None or bool((leaf.grad == 0).all())


def test_thinning_keeps_the_value():
    left, right = exact_field(LEFT), exact_field(RIGHT)
    torch.manual_seed(0)
    every = MultiviewTerm(sigma=0.05).loss(left, right, MATRIX).value.item()
    some = MultiviewTerm(sigma=0.05, max_pixels=150).loss(left, right, MATRIX).value.item()
    assert some != every
    assert some == pytest.approx(every, rel=0.25)


def test_charts_match_through_the_atlas():
    """A plane in two charts: the coordinate comes from the atlas, disagreeing parts do not match."""
    steps = torch.linspace(0, 1, 8)
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    atlas = ChartAtlas(torch.stack([torch.stack([u, v, v * 0]), torch.stack([u, v, v * 0])]))
    generator = torch.Generator().manual_seed(0)
    uv = torch.rand(1, 2, 2, 16, 16, generator=generator).requires_grad_()
    logits = torch.full((1, 3, 16, 16), -4.0)
    logits[:, 1] = 4
    field = ChartField(logits.clone().requires_grad_(), uv, 4)
    matrix = torch.tensor([[[0.0, 0, 0], [0, 0, -1], [0, 1, 0]]])
    loss = partial(MultiviewTerm(sigma=0.02).loss, atlas=atlas)
    term = loss(field, ChartField(logits, uv.detach(), 4), matrix)
    assert term.valid_share == 1
    term.value.backward()
    assert uv.grad[:, 0].abs().sum() > 0
    assert uv.grad[:, 1].abs().sum() == 0  # the part that is not there
    assert field.part_logits.grad.abs().sum() > 0
    swapped = ChartField(logits[:, [0, 2, 1]], uv.detach(), 4)
    assert loss(field, swapped, matrix).valid_share == 0


# ------------------------------------------------------------------------------------------------------- silhouette


def test_support_by_hand():
    """Sideways motion: the line of a pixel is its row."""
    matrix = torch.tensor([[[0.0, 0, 0], [0, 0, -1], [0, 1, 0]]])
    other_pixels = pixel_grid(4, 4, 2).reshape(1, -1, 2)
    probability = torch.zeros(1, 4, 4)
    probability[0, 1, 2], probability[0, 1, 3] = 0.7, 0.3
    pixels = torch.tensor([[[5.0, 3.0], [5.0, 4.5], [5.0, 7.0], [5.0, 40.0]]])
    support, crosses = epipolar_support(probability.flatten(1), pixels, other_pixels, matrix, 1.6)
    assert support[0].tolist() == pytest.approx([0.7, 0.7, 0.0, 0.0])
    assert crosses[0].tolist() == [True, True, True, False]


def test_support_in_blocks_equals_the_whole(monkeypatch):
    left, right = exact_field(LEFT), exact_field(RIGHT)
    arguments = (
        right.foreground_probability.flatten(1),
        left.pixels().reshape(1, -1, 2),
        right.pixels().reshape(1, -1, 2),
        MATRIX,
        3.0,
    )
    whole = epipolar_support(*arguments)
    monkeypatch.setattr("dkp.losses.tiled._CPU_BLOCK", 5000)
    blocks = epipolar_support(*arguments)
    assert torch.equal(whole[0], blocks[0])
    assert torch.equal(whole[1], blocks[1])
    assert whole[0][left.foreground.flatten(1) > 0].min() > 0.99


def test_silhouette_lowers_only_unsupported_foreground():
    left, right = exact_field(LEFT), exact_field(RIGHT)
    clutter = left.foreground.clone()
    clutter[0, :3, :] = 4.0  # a stripe at the top of one view only
    clutter.requires_grad_()
    dirty = EmbeddingField(clutter, left.coordinate, STRIDE)
    term = SilhouetteTerm().loss(dirty, right, MATRIX)
    clean = SilhouetteTerm().loss(left, right, MATRIX)
    assert term.value > clean.value + 0.1
    assert clean.parts["unsupported"] < 0.01
    assert term.parts["unsupported"] > 0.05
    term.value.backward()
    assert clutter.grad.min() >= 0  # descent never raises foreground
    assert clutter.grad[0, :3].sum() > 20 * clutter.grad[0, 3:].sum()


def with_foreground(field: EmbeddingField, logits: Tensor) -> EmbeddingField:
    """The field with other foreground logits (1, H, W)."""
    return EmbeddingField(logits, field.coordinate, field.stride)


def test_evidence_decides_in_place_of_the_fields():
    """What is lost in the other view in training still supports, because the frozen evidence has it."""
    left, right = exact_field(LEFT), exact_field(RIGHT)
    lost = with_foreground(right, torch.where(torch.arange(32)[:, None] < 16, right.foreground, -8.0))
    loss = SilhouetteTerm().loss
    own = loss(left, lost, MATRIX)
    frozen = loss(left, lost, MATRIX, evidence=left, other_evidence=right)
    assert own.parts["unsupported"] > 0.1
    assert frozen.parts["unsupported"] < 0.01
    assert frozen.value < 0.1 * own.value
    # The other way about: where the evidence lacks it, foreground that both fields in training agree on is lowered.
    missing = loss(left, right, MATRIX, evidence=left, other_evidence=lost)
    assert missing.parts["unsupported"] > 0.1


def test_evidence_of_each_view_judges_the_other_one():
    left, right = exact_field(LEFT), exact_field(RIGHT)
    lost = with_foreground(right, torch.where(torch.arange(32)[:, None] < 16, right.foreground, -8.0))
    logits = [field.foreground.clone().requires_grad_() for field in (left, right)]
    one, two = with_foreground(left, logits[0]), with_foreground(right, logits[1])
    SilhouetteTerm().loss(one, two, MATRIX, evidence=left, other_evidence=lost).value.backward()
    assert logits[0].grad.sum() > 20 * logits[1].grad.sum()


def test_evidence_gets_no_gradient():
    left, right = exact_field(LEFT), exact_field(RIGHT)
    logits = [torch.zeros_like(left.foreground).requires_grad_() for _ in range(4)]
    fields = [with_foreground(left if place % 2 == 0 else right, value + 2) for place, value in enumerate(logits)]
    term = SilhouetteTerm().loss(fields[0], fields[1], MATRIX, evidence=fields[2], other_evidence=fields[3])
    term.value.backward()
    assert logits[0].grad.abs().sum() > 0
    assert logits[2].grad is None or not logits[2].grad.any()
    assert logits[3].grad is None or not logits[3].grad.any()


def test_a_view_that_misses_the_subject_does_not_judge():
    left, right = exact_field(LEFT), exact_field(RIGHT)
    speck = torch.full_like(right.foreground, -8.0)
    speck[0, 15:17, 15:17] = 8.0
    blind = with_foreground(right, speck)
    options = {"evidence": left, "other_evidence": blind}
    anyone = SilhouetteTerm(least_share=0.0).loss(left, right, MATRIX, **options)
    judged = SilhouetteTerm().loss(left, right, MATRIX, **options)
    assert anyone.parts["unsupported"] > 0.2
    assert judged.parts["unsupported"] < 0.01  # only the cells of the second view, which the first one sees
    assert judged.value < 0.1 * anyone.value


def test_the_share_that_makes_a_judge():
    """The second view sees half as much as the first: it judges up to a least share of one half."""
    left = exact_field(LEFT)
    wide, narrow = torch.full_like(left.foreground, -8.0), torch.full_like(left.foreground, -8.0)
    wide[0, :, 8:24] = 8.0
    narrow[0, :, 8:16] = 8.0
    first, second = with_foreground(left, wide), with_foreground(exact_field(RIGHT), narrow)
    assert (wide > 0).sum() == 2 * (narrow > 0).sum()
    counted = {}
    for least in (0.5, 0.51):
        logits = first.foreground.clone().requires_grad_()
        SilhouetteTerm(least_share=least).loss(with_foreground(first, logits), second, MATRIX).value.backward()
        counted[least] = int((logits.grad > 0).sum())
    assert counted[0.5] > 0
    assert counted[0.51] == 0


# ------------------------------------------------------------------------------------------------------------- warp


def test_the_true_warp_costs_less_than_a_wrong_one():
    field = exact_field(LEFT)
    loss = TemporalTerm(sigma=0.01).loss
    still = warp_from_flow(torch.zeros(1, 2, 32, 32), STRIDE)
    moved = warp_from_flow(torch.full((1, 2, 32, 32), 9.0), STRIDE)
    exact = loss(field, field, still)
    assert exact.parts["distance"] < STRIDE
    assert exact.valid_share == 1
    assert loss(field, field, moved).parts["distance"] > exact.parts["distance"] + 5


def test_a_mirrored_image_is_matched_by_its_warp():
    field = exact_field(LEFT)
    mirrored = EmbeddingField(field.foreground.flip(-1), field.coordinate.flip(-1), STRIDE)
    matrix = torch.tensor([[[-1.0, 0, SIZE], [0, 1, 0]]])
    warp = warp_from_affine(matrix, 32, 32, STRIDE)
    assert warp[0, 3, 5].tolist() == [SIZE - 22.0, 14.0]
    loss = TemporalTerm(sigma=0.01).loss
    still = warp_from_flow(torch.zeros(1, 2, 32, 32), STRIDE)
    assert loss(field, mirrored, warp).parts["distance"].item() == pytest.approx(
        loss(field, field, still).parts["distance"].item(), rel=1e-4
    )
    assert loss(field, mirrored, still).parts["distance"] > 2 * loss(field, mirrored, warp).parts["distance"]


def test_unknown_and_outside_places_do_not_count():
    field = exact_field(LEFT)
    field.coordinate.requires_grad_()
    flow = torch.zeros(1, 2, 32, 32)
    valid = torch.ones(1, 32, 32, dtype=torch.bool)
    loss = TemporalTerm(sigma=0.01).loss
    half = valid.clone()
    half[:, :16] = False
    flow[:, :, :16] = torch.nan
    term = loss(field, field, warp_from_flow(flow, STRIDE), half)
    term.value.backward()
    assert 0 < term.value < 1
    assert torch.isfinite(field.coordinate.grad).all()
    outside = loss(field, field, warp_from_flow(torch.full((1, 2, 32, 32), 500.0), STRIDE), valid)
    assert outside.value == 0
    assert outside.valid_share == 0


def test_module_and_function_agree():
    """One direction of the loss, by hand from the function."""
    left, right = exact_field(LEFT), exact_field(RIGHT)
    sides = []
    for field in (left, right):
        inside = field.foreground[0] > 0
        sides.append((field.coordinate[0][:, inside].T[None], field.pixels()[inside][None]))
    (u, x), (other, y) = sides
    forth = expected_epipolar_distance(u, other, x, y, MATRIX, 0.03)
    back = expected_epipolar_distance(other, u, y, x, MATRIX.mT, 0.03)
    means = [match.distance[match.max_matchability > math.exp(-2)].mean() for match in (forth, back)]
    term = MultiviewTerm(sigma=0.03, clip=None).loss(left, right, MATRIX)
    assert term.value.item() == pytest.approx((means[0] + means[1]).item() / 20, rel=1e-4)


def test_residuals_lie_on_the_cells_that_contradict_the_other_view():
    left, right = exact_field(LEFT), exact_field(RIGHT)
    upper = torch.arange(SIZE // STRIDE)[:, None] < 14
    wrong = changed(left, lambda u: torch.where(upper, u - torch.tensor([0.0, 0.0, 0.15]).view(1, 3, 1, 1), u))
    good, other = epipolar_residuals(left, right, MATRIX, 0.02)
    bad, _ = epipolar_residuals(wrong, right, MATRIX, 0.02)
    background = left.foreground < 0
    assert background.any()
    assert good[background].isinf().all()
    assert other[right.foreground < 0].isinf().all()
    judged = good.isfinite() & bad.isfinite()
    assert judged.any()
    assert good[judged].max() < STRIDE
    assert bad[judged & upper].median() > 2 * STRIDE
    torch.testing.assert_close(bad[judged & ~upper].median(), good[judged & ~upper].median(), rtol=0.5, atol=0.3)
