"""Files that are given for cameras."""

import logging

import pytest

from dkp.importers.media.names import match_names

CAMERAS = ["cam_01", "cam_02", "cam_03"]


@pytest.mark.parametrize("form", [list, lambda paths: dict(zip(CAMERAS, paths, strict=True))])
def test_files_given_in_another_order_than_their_names_are_taken_and_doubted(form, tmp_path, caplog):
    """Detections are found by name, so exchanged videos would show nowhere else."""
    first, second, third = (tmp_path / f"cam0{number}.mp4" for number in (1, 2, 3))
    with caplog.at_level(logging.WARNING):
        assert list(match_names(form([first, second, third]), CAMERAS, "a video").values()) == [first, second, third]
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert list(match_names(form([second, first, third]), CAMERAS, "a video").values()) == [second, first, third]
    (record,) = caplog.records
    said = "cam02.mp4 is taken for camera 'cam_01', but by the names that would be cam01.mp4"
    assert said in record.getMessage()


def test_files_with_names_of_no_camera_are_not_doubted(tmp_path, caplog):
    paths = [tmp_path / name for name in ("left.mp4", "right.mp4", "top.mp4")]
    with caplog.at_level(logging.WARNING):
        assert list(match_names(paths, CAMERAS, "a video").values()) == paths
    assert not caplog.records
