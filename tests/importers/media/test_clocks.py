"""Frames of one moment whose numbers differ: offsets and CSVs of times."""

import numpy as np
import pytest

from dkp.captures.images import write_image
from dkp.errors import InputError
from dkp.importers.media.clocks import synchronise
from dkp.importers.media.synchronise import frame_numbers
from dkp.importers.media.video import open_media


@pytest.fixture
def sources(tmp_path):
    """Ten and twelve frames; the colour of a frame is its own number."""
    for name, count in (("cam_a", 10), ("cam_b", 12)):
        (tmp_path / "media" / name).mkdir(parents=True)
        for number in range(count):
            write_image(tmp_path / "media" / name / f"f{number:02d}.png", np.full((8, 8, 3), number, np.uint8))
    return open_media(tmp_path / "media", ["cam_a", "cam_b"])


def seen(source, numbers):
    return {number: int(frame[0, 0, 0]) for number, frame in source.frames([n for n in numbers if n in source])}


@pytest.mark.parametrize("shift", [3, -2])
def test_a_camera_that_is_ahead(sources, shift):
    synchronise(sources, {"cam_b": shift})
    numbers = frame_numbers(sources, synced=True)
    assert numbers == list(range(max(0, -shift), min(10, 12 - shift)))
    assert seen(sources["cam_a"], numbers) == {n: n for n in numbers}
    assert seen(sources["cam_b"], numbers) == {n: n + shift for n in numbers}
    assert sources["cam_b"].moment(5) == 5 - shift


def write(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_nearest_times_belong_together(sources, tmp_path, encoding):
    """cam_b runs at half again the rate and began 0.1 s later; its frame 4 is lost."""
    lines = ["cam_id,frame_index,frame_time"]
    lines += [f"cam_a,{n},{5 + 0.1 * n}" for n in range(10)]
    lines += [f"cam_b,{n},{5.1 + 0.1 * n / 1.5:.6f}" for n in range(12) if n != 4]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding=encoding)
    synchronise(sources, tmp_path / "t.csv")
    numbers = frame_numbers(sources, synced=True)
    assert seen(sources["cam_a"], numbers) == {n: n for n in numbers}
    found = seen(sources["cam_b"], numbers)
    assert found[1] == 0
    assert found[4] in (4, 5)
    for moment, own in found.items():
        assert abs(5.1 + 0.1 * own / 1.5 - (5 + 0.1 * moment)) <= 0.05 + 1e-9
    assert len({*found.values()}) == len(found) == 8


def test_an_index_of_moments_is_taken_as_it_is(sources, tmp_path):
    lines = [
        "sync_index,cam_id,frame_time",
        *(f"{n + 100},cam_a,0" for n in range(10)),
        *(f"{n + 98},cam_b,0" for n in range(12)),
    ]
    synchronise(sources, write(tmp_path / "t.csv", lines))
    assert frame_numbers(sources, synced=True) == list(range(100, 110))
    assert seen(sources["cam_b"], [100, 109]) == {100: 2, 109: 11}


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (["a,b", "1,2"], "has the columns a, b, expected a camera and a sync_index or time"),
        ([], "has the columns none"),
        (["c\x01m,b", "1,2"], r"has the columns c\\x01m, b, expected"),
        (["camera,time", "a,0", "a,1", "b,0"], "has 1 frames of the camera 'cam_b', expected a line for each"),
        (["camera,time", "a,0", "a,x"], r"t.csv:3 has time 'x', expected a number"),
        (["camera,time", "a,0", "a,nan"], r"t.csv:3 has time 'nan', expected a number"),
        (["camera,frame,time", "a,0,0", "a,0,1"], r"t.csv:3 has time '1', expected a number, and every frame once"),
        (["camera,time", "a,1", "a,0", "b,0", "b,1"], "time of the camera 'cam_a' does not increase"),
        (["camera,frame,time", "a,0,0", "a,1,1", "b,70,0", "b,71,1"], "of which sync leaves none"),
    ],
)
def test_bad_tables_are_named(sources, tmp_path, lines, match):
    with pytest.raises(InputError, match=match):
        synchronise(sources, write(tmp_path / "t.csv", lines))


def test_bad_offsets_are_named(sources, tmp_path):
    for sync, match in (
        ({"cam_c": 1}, "sync names the camera 'cam_c', expected one of cam_a, cam_b"),
        ({"cam_b": 0.5}, "sync: cam_b is 0.5, expected a whole number"),
        (tmp_path / "none.csv", "cannot be read"),
    ):
        with pytest.raises(InputError, match=match):
            synchronise(sources, sync)
    synchronise(sources, {"cam_b": 50})
    with pytest.raises(InputError, match="frames is '', which selects none"):
        frame_numbers(sources, synced=True)
