"""Comparisons and curves show what they are given."""

import numpy as np

from dkp.viz import CurvePanel, Panel, comparison_figure, curve_figure


def test_dots_and_bars_are_at_the_means(tmp_path):
    values = {"control": (14.0, 0.5), "ours": (12.0, None), "oracle": None}
    figure = comparison_figure(
        [Panel("error [cm]", values), Panel("distance [px]", values)], emphasised="ours", path=tmp_path / "a" / "b.png"
    )
    assert (tmp_path / "a" / "b.png").stat().st_size > 1000
    first, second = figure.axes
    assert [text.get_text() for text in first.get_yticklabels()] == ["control", "ours", "oracle"]
    assert second.get_title() == "distance [px]"
    assert [text.get_text() for text in first.texts] == ["no result yet"]
    dots = [container.lines[0].get_xydata()[0].tolist() for container in first.containers]
    assert dots == [[14.0, 0.0], [12.0, 1.0]]
    ends = first.containers[0].lines[2][0].get_segments()[0][:, 0]
    np.testing.assert_allclose(ends, [13.5, 14.5])
    assert first.containers[0].lines[0].get_color() != first.containers[1].lines[0].get_color()


def test_a_long_title_stays_within_the_figure():
    title = "A real person, frames 80 to 99; no joint is used in training but in the last row"
    figure = comparison_figure([Panel("distance [px]", {"ours": (1.0, None)})], title=title)
    figure.draw_without_rendering()
    (shown,) = [text for text in figure.texts if text.get_text()]
    assert shown.get_text().replace("\n", " ") == title
    box = shown.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1


def test_curves_go_through_their_points():
    panel = CurvePanel("error [cm]", {"ours": [(0.1, 13.0, 0.2), (1.0, 11.0, None)], "none": []}, {"control": 14.0})
    (axes,) = curve_figure([panel], "share of instants", title="Instants").axes
    np.testing.assert_allclose(axes.containers[0].lines[0].get_xydata(), [[0.1, 13.0], [1.0, 11.0]])
    assert axes.get_xlabel() == "share of instants"
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"ours", "none", "control"}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.1", "1"]
