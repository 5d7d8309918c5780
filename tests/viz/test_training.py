"""Curves of loss terms, and what the multiview term sees."""

from dkp.viz.training import training_figure


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes if axes.lines]


def test_every_term_has_a_row_and_a_single_value_shows():
    control = {"train/loss": [(0, 2.0), (9, 1.0)], "train/mask": [(0, 2.0), (9, 1.0)], "train/mask/weight": [(0, 1.0)]}
    ours = control | {"train/multiview": [(0, 3.0)], "train/multiview/weight": [(0, 1.0)]}
    ours |= {"train/multiview/distance": [(0, 4.0), (9, 2.0)], "train/multiview/gradient_norm": [(9, 1.0)]}
    figure = training_figure({"control": control, "ours": ours})
    assert titles(figure) == [
        "loss: value", "mask: value", "mask: weight", "multiview: value", "multiview: weight",
        "multiview: norm of the gradient", "matches: epipolar distance [px]",
    ]  # fmt: skip
    marked = {axes.get_title(loc="left") for axes in figure.axes for line in axes.lines if line.get_marker() == "."}
    assert marked == {"mask: weight", "multiview: value", "multiview: weight", "multiview: norm of the gradient"}
    assert not any("matches" in title for title in titles(training_figure({"control": control})))
