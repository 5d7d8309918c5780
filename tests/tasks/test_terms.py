import pytest
import torch

from dkp.losses import LossValue, MaskTerm, MultiviewTerm
from dkp.tasks.terms import (
    TermLedger,
    TrainingDiverged,
    WeightedTerm,
    gradient_norms,
    require_finite,
    require_finite_weights,
    silence,
    total_loss,
)


def term(value: float | torch.Tensor, share: float = 1.0) -> LossValue:
    return LossValue(torch.as_tensor(value), torch.tensor(share), {})


def test_total_is_the_weighted_sum():
    terms = {"labelled": WeightedTerm(term(2.0), 0.5), "multiview": WeightedTerm(term(3.0), 2.0)}
    assert float(total_loss(terms)) == 7.0


def test_a_finite_total_passes():
    terms = {"labelled": WeightedTerm(term(2.0), 1.0)}
    require_finite(terms, total_loss(terms), 3)


def test_divergence_names_the_term_and_the_step():
    terms = {"labelled": WeightedTerm(term(1.0), 1.0), "multiview": WeightedTerm(term(float("nan")), 1.0)}
    with pytest.raises(TrainingDiverged, match=r"step 17 .*: multiview = nan$"):
        require_finite(terms, total_loss(terms), 17)


def test_weights_that_are_not_finite_are_named(make_detector):
    detector = make_detector()
    require_finite_weights(detector, 5)
    with torch.no_grad():
        detector.coordinate_head[-1].bias[1] = torch.inf
    with pytest.raises(TrainingDiverged, match=r"step 5 because the weights coordinate_head\.2\.bias are not finite"):
        require_finite_weights(detector, 5)


def test_gradient_norms_are_those_of_the_weighted_terms():
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    other = torch.nn.Parameter(torch.tensor(1.0))
    terms = {
        "labelled": WeightedTerm(term(weight.square().sum() / 2), 2.0),
        "silhouette": WeightedTerm(term(other * 5), 1.0),
        "distillation": WeightedTerm(term(1.0), 1.0),
    }
    norms = gradient_norms(terms, [weight])
    assert norms["labelled"] == pytest.approx(10.0)
    assert norms["silhouette"] == 0
    assert norms["distillation"] == 0
    total_loss(terms).backward()
    assert weight.grad is not None


def test_ledger_tells_silent_terms_from_those_that_fired_once():
    ledger = TermLedger()
    for share in (0.0, 0.4, 0.0):
        ledger.count("labelled", term(1.0, share))
        ledger.count("multiview", term(0.0, 0.0))
        ledger.count("silhouette", None)
    assert ledger.due == {"labelled": 3, "multiview": 3, "silhouette": 3}
    assert {name: int(steps) for name, steps in ledger.fired.items()} == {"labelled": 1, "multiview": 0}
    ledger.reset()
    assert not ledger.due
    assert not ledger.fired


def test_silent_terms_are_named_at_once_with_their_keys():
    text = silence({"multiview": MultiviewTerm(), "mask": MaskTerm()}, 12)
    assert "L_M (model.terms.multiview.weight)" in text
    assert "(model.terms.mask.weight)" in text
    assert "12 steps" in text
    assert "angle" in text
    assert "\n" not in text
