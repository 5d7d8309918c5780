"""One loss over two processes: the gradients of one process with all the batches."""

import multiprocessing
import traceback
from datetime import timedelta

import pytest
import torch
from torch import distributed

from dkp.losses import DistillationTerm, LabelledTerm, MaskTerm, Mean, MultiviewTerm, SilhouetteTerm, TemporalTerm
from dkp.tasks import SemiSupervisedTask
from dkp.tasks.processes import average, over_processes, step_seed
from dkp.tasks.terms import total_loss

from .conftest import instant, labelled_batch, multiview_batch

TERMS = {
    "labelled": LabelledTerm,
    "multiview": MultiviewTerm,
    "distillation": DistillationTerm,
    "temporal": TemporalTerm,
    "silhouette": SilhouetteTerm,
    "mask": MaskTerm,
}


def make_task(make_detector, plane, **options):
    """A task with all terms that draw nothing at random, in double precision."""
    terms = {name: kind(weight=0.5 + 0.1 * index) for index, (name, kind) in enumerate(TERMS.items())}
    detector, teacher = make_detector(), make_detector(seed=1)
    for one in (detector, teacher):
        torch.nn.init.constant_(one.foreground_head[-1].bias, 1.0)
        torch.nn.init.normal_(one.coordinate_head[-1].weight, std=0.1)
    task = SemiSupervisedTask(detector, teacher, plane, terms=terms, start_from_teacher=False, **options)
    task.configure_models("fit")
    return task.double()


def doubled(value):
    """Batches with double precision throughout."""
    if isinstance(value, dict):
        return {name: doubled(entry) for name, entry in value.items()}
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def items():
    """Four instants of which each has something else that is valid."""
    made = [instant(seed) for seed in range(4)]
    for item in made:
        item["next_image"] = item["image"].flip(0)
        item["flow"] = torch.zeros(3, 2, 16, 16)
        item["flow_valid"] = torch.ones(3, 16, 16, dtype=torch.bool)
    made[0]["known"] = made[0]["known"] & (torch.arange(16) < 5)
    made[1]["pair_valid"] = torch.tensor([True, False, False])
    made[2]["mask"] = made[2]["mask"] & torch.tensor([True, False, False])[:, None, None]
    made[3]["flow_valid"][:, :, 4:] = False
    return made


def both(chosen):
    return doubled({"labelled": labelled_batch(chosen), "unlabelled": multiview_batch(chosen)})


def shares(case):
    """What one process has, and what each of two has of it."""
    made = items()
    if case == "no pair":
        made[2]["pair_valid"] = made[3]["pair_valid"] = torch.zeros(3, dtype=torch.bool)
    if case == "no label":
        made[2]["known"] = made[3]["known"] = torch.zeros(3, 16, 16, dtype=torch.bool)
    halves = [both(made[:2]), both(made[2:])]
    if case == "no labelled part":
        del halves[1]["labelled"]
        return {"labelled": halves[0]["labelled"], "unlabelled": doubled(multiview_batch(made))}, halves
    if case == "different parts":
        return {"labelled": halves[1]["labelled"], "unlabelled": halves[0]["unlabelled"]}, [
            {"unlabelled": halves[0]["unlabelled"]},
            {"labelled": halves[1]["labelled"]},
        ]
    return both(made), halves


def gradient(task):
    return torch.cat([parameter.grad.flatten() for parameter in task.detector.parameters()])


def work(rank, store, task, batches, pipe):
    try:
        torch.set_num_threads(1)
        distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
        )
        parameters = list(task.detector.parameters())
        terms = over_processes(task.training_terms(batches[rank]), list(task._ledger.due), parameters)
        total_loss(terms).backward()
        mean = gradient(task) / 2
        distributed.all_reduce(mean)
        values = {name: (entry.loss.value.item(), entry.weight) for name, entry in terms.items()}
        pipe.send((mean.numpy(), values))
        distributed.barrier()
    except BaseException:
        pipe.send(traceback.format_exc())


@pytest.mark.parametrize("case", ["uneven", "no pair", "no label", "no labelled part", "different parts"])
def test_two_processes_have_the_gradients_of_one(case, make_detector, plane, tmp_path):
    whole, halves = shares(case)
    alone = make_task(make_detector, plane)
    terms = alone.training_terms(whole)
    assert set(terms) == set(TERMS)
    total_loss(terms).backward()
    expected = gradient(alone)
    context, pipes = multiprocessing.get_context("fork"), []
    for rank in range(2):
        here, there = context.Pipe(duplex=False)
        task = make_task(make_detector, plane)
        context.Process(target=work, args=(rank, str(tmp_path / "store"), task, halves, there), daemon=True).start()
        pipes.append(here)
    for pipe in pipes:
        found = pipe.recv() if pipe.poll(90) else "no answer within 90 s"
        assert isinstance(found, tuple), found
        mean, values = found
        assert (torch.from_numpy(mean) - expected).norm() < 1e-5 * expected.norm()
        for name, entry in terms.items():
            assert values[name] == pytest.approx((entry.loss.value.item(), entry.weight), rel=1e-5), name


def test_averaging_over_processes_alone_would_not_do(make_detector, plane):
    whole, halves = shares("uneven")
    found = []
    for batch in (whole, *halves):
        task = make_task(make_detector, plane)
        total_loss(task.training_terms(batch)).backward()
        found.append(gradient(task))
    assert ((found[1] + found[2]) / 2 - found[0]).norm() > 1e-2 * found[0].norm()


def test_every_loss_is_the_sum_of_its_means(make_detector, plane):
    whole, _ = shares("uneven")
    for name, entry in make_task(make_detector, plane).training_terms(whole).items():
        assert entry.loss.means, name
        total = sum(mean.value for mean in entry.loss.means)
        torch.testing.assert_close(total, entry.loss.value, check_dtype=False, msg=name)


def test_members_without_weight_do_not_pull_an_average_down():
    sums, weights = torch.tensor([[6.0, 0.0], [1.0, 9.0]]), torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    assert average(sums, weights) == 3 + (1 + 3) / 2
    assert Mean(sums[0], weights[0], factor=2.0).value == 6
    assert Mean(sums[0] * 0, weights[0] * 0).value == 0


def test_steps_and_processes_have_seeds_of_their_own():
    seeds = {step_seed(seed, step, batch, rank) for seed in (0, 7) for step in range(4) for batch in (0, 1)
             for rank in range(3)}  # fmt: skip
    assert len(seeds) == 2 * 4 * 2 * 3
    assert step_seed(7, 3, 1, 2) == step_seed(7, 3, 1, 2)
