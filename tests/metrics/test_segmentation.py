"""dkp/metrics/segmentation.py against NumPy."""

import numpy as np
import pytest
import torch

from dkp.metrics.segmentation import ForegroundIoU, PartAccuracy


def masks(seed, batch=3):
    rng = torch.Generator().manual_seed(seed)
    foreground = torch.rand(batch, 6, 7, generator=rng)
    label, known = (torch.rand(2, batch, 6, 7, generator=rng) > 0.4).unbind()
    return foreground, label, known


def part_maps(seed, batch=2, parts=4):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, parts + 1, 5, 5, generator=rng)
    label = torch.randint(0, parts + 1, (batch, 5, 5), generator=rng)
    return logits, label, torch.rand(batch, 5, 5, generator=rng) > 0.2


def test_iou_against_numpy():
    metric, inter, union, shares = ForegroundIoU(threshold=0.6), 0, 0, []
    for seed in range(3):
        foreground, label, known = masks(seed)
        metric.update(foreground, label, known)
        for view in range(3):
            seen = known[view].numpy()
            a, b = (foreground[view].numpy() > 0.6)[seen], label[view].numpy()[seen]
            inter, union = inter + (a & b).sum(), union + (a | b).sum()
            shares.append((a & b).sum() / (a | b).sum())
    value = metric.compute()
    assert value["iou"].item() == pytest.approx(inter / union)
    assert value["iou_view"].item() == pytest.approx(np.mean(shares))


def test_empty_views_take_no_part():
    metric = ForegroundIoU()
    metric.update(torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]]), torch.tensor([[[True, True]], [[False, False]]]))
    assert {name: value.item() for name, value in metric.compute().items()} == {"iou": 0.5, "iou_view": 0.5}
    metric.reset()
    metric.update(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2).bool())
    assert metric.compute()["iou"].isnan()


def test_iou_takes_bool_predictions():
    metric = ForegroundIoU()
    metric.update(torch.tensor([[True, False]]), torch.tensor([[True, True]]))
    assert metric.compute()["iou"] == 0.5


def test_part_accuracy_against_numpy():
    metric, correct, total = PartAccuracy(parts=4), np.zeros(5), np.zeros(5)
    for seed in range(3):
        logits, label, known = part_maps(seed)
        metric.update(logits, label, known)
        predicted = logits.numpy().argmax(axis=1)
        for part in range(1, 5):
            here = (label.numpy() == part) & known.numpy()
            total[part] += here.sum()
            correct[part] += (predicted[here] == part).sum()
    value = metric.compute()
    assert value["part_accuracy"].item() == pytest.approx(correct.sum() / total.sum())
    assert value["part_accuracy_mean"].item() == pytest.approx((correct[1:] / total[1:]).mean())


def test_parts_that_do_not_occur_leave_the_mean():
    metric = PartAccuracy(parts=24)
    metric.update(torch.tensor([[3, 3, 7]]), torch.tensor([[3, 7, 7]]))
    assert metric.compute()["part_accuracy_mean"] == 0.75


def test_two_processes(assert_same_in_two_processes):
    assert_same_in_two_processes(ForegroundIoU, [masks(seed) for seed in range(3)])
    assert_same_in_two_processes(lambda: PartAccuracy(parts=4), [part_maps(seed) for seed in range(3)])
