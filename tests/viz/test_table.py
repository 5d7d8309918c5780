"""dkp/viz/table.py: the comparison as text."""

import io
import re

import pytest
from rich.console import Console

from dkp.viz.table import ROWS, evaluation_text, summary_markdown, summary_table

SUMMARY = {
    "trivial": {"epipolar_median_px": 4.1, "matched_share": 0.9, "geodesic_median_cm": None},
    "adapted": {"geodesic_median_cm": 14.81, "epipolar_median_px": 5.9, "iou": 0.5, "matched_share": 0.48},
    "teacher": {"geodesic_median_cm": 16.4, "epipolar_median_px": 7.12, "iou": 0.57, "matched_share": 0.31},
    "control": {"geodesic_median_cm": float("nan"), "epipolar_median_px": 7.1, "iou": 0.57, "matched_share": None},
}


def lines(summary):
    rows = [line.strip("|").split("|") for line in summary_markdown(summary).splitlines()]
    return rows[0], {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows[2:]}


def test_columns_are_in_the_order_of_the_comparison_and_the_trivial_field_is_last():
    header, _ = lines(SUMMARY)
    assert [cell.strip() for cell in header[1:]] == ["teacher", "control", "adapted", "trivial"]
    header, _ = lines({**SUMMARY, "bootstrap": {}})
    assert [cell.strip() for cell in header[1:]] == ["teacher", "control", "adapted", "bootstrap", "trivial"]


def test_best_is_bold_lower_or_higher_and_never_the_trivial_field():
    _, rows = lines(SUMMARY)
    assert rows["epipolar distance, median [px] ↓"] == ["7.12", "7.10", "**5.90**", "4.10"]
    assert rows["foreground matched across views ↑"] == ["0.310", "–", "**0.480**", "0.900"]
    assert rows["foreground IoU ↑"] == ["**0.570**", "**0.570**", "0.500", "–"]


def test_missing_none_and_nan_are_dashes():
    _, rows = lines(SUMMARY)
    assert rows["geodesic error, median [cm] ↓"] == ["16.4", "–", "**14.8**", "–"]


def test_rows_that_nobody_has_are_left_out_and_the_rest_keeps_its_order():
    _, rows = lines(SUMMARY)
    assert list(rows) == [row.heading for row in ROWS if row.key in SUMMARY["teacher"]]
    _, rows = lines({name: {**values, "auc30": None, "joint_cm": float("nan")} for name, values in SUMMARY.items()})
    assert list(rows) == [row.heading for row in ROWS if row.key in SUMMARY["teacher"]]


def test_a_single_value_is_not_the_best():
    _, rows = lines({"teacher": {"iou": 0.5}, "adapted": {"iou": None}})
    assert rows["foreground IoU ↑"] == ["0.500", "–"]


@pytest.mark.parametrize(("value", "text"), [(0.523, "0.523"), (0.05236, "0.052"), (5.236, "5.24"), (152.36, "152.4")])
def test_lengths_have_three_digits(value, text):
    _, rows = lines({"teacher": {"joint_cm": value}})
    assert rows["joint error, median [cm] ↓"] == [text]


def test_the_terminal_shows_the_same_cells():
    stream = io.StringIO()
    Console(file=stream, width=120, force_terminal=True, color_system="standard").print(summary_table(SUMMARY, "Test"))
    text = stream.getvalue()
    assert "Test" in text
    assert re.search(r"\x1b\[1m *14\.8", text)
    assert not re.search(r"\x1b\[1m *16\.4", text)
    assert "16.4" in text
    assert "[cm]" in text


def test_an_evaluation_is_a_table_of_the_detector_and_what_it_is_compared_with():
    values = {
        "test/joint_cm": 7.5, "test/pair/a-b/epipolar_px": 1.0, "train/joint/nose/cm": 3.0, "test/joint/nose/cm": 4.25,
        "test/joint/left_knee/cm": 8.0, "test/joint/left_knee/exchanged": 0.125, "test/exact_joint_cm": 6.25,
        "test/joint/left_knee/on_foreground": 0.75,
        "test/trivial/matched_share": 0.5, "test/matched_share": 0.25, "test/joints": 3.0, "train/loss": 9.0,
    }  # fmt: skip
    rows = [
        line.split() for line in evaluation_text(values, "test on captures/mine#test").splitlines() if line.strip(" ─")
    ]
    assert rows[0] == ["test", "on", "captures/mine#test"]
    assert rows[1] == ["detector", "exact", "labels", "trivial"]
    assert rows[2] == [*["foreground", "matched", "across", "views", "↑"], "0.250", "–", "0.500"]
    assert rows[3] == [*["joint", "error,", "median", "[cm]", "↓"], "7.50", "6.25", "–"]
    assert rows[4][:2] == ["Arrows", "point"]
    assert rows[5] == [*["joint", "mean", "error", "[cm]", "exchanged"], *["on", "the", "foreground"]]
    assert rows[6:] == [["nose", "4.250", "–", "–"], ["left_knee", "8.000", "0.125", "0.750"]]
    assert evaluation_text({"train/loss": 1.0}, "fit") == ""
    two = evaluation_text({"test_0/iou": 0.5, "test_1/iou": 0.75}, "test on [a, b]")
    assert [line for line in two.splitlines() if "test on" in line] == [
        "test on [a, b]: test_0",
        "test on [a, b]: test_1",
    ]
