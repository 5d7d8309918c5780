"""`dkp predict` on images and videos of painted cards: what is written, going on, following, and errors."""

import csv
import json
import re
import shutil

import cv2
import numpy as np
import pytest

from dkp.captures.images import write_image
from dkp.cli import main
from dkp.errors import InputError
from dkp.inference import command
from dkp.inference.output import Output
from dkp.inference.prediction import load_predictions

from .conftest import paint

FRAMES = 20
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(autouse=True)
def colours(monkeypatch, predictor):
    monkeypatch.setattr(command, "load", lambda *_, **__: predictor)


def place(number, person=0):
    """Box of a card: one moves to the right, the other one to the left below it."""
    return (10 + 4 * number, 12, 60 + 4 * number, 52) if person == 0 else (110 - 3 * number, 68, 140 - 3 * number, 112)


def write_video(path, people):
    """Cards that move over black."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120))
    for number in range(FRAMES):
        image = np.zeros((120, 160, 3), np.uint8)
        for x0, y0, x1, y1 in (place(number, person) for person in people):
            paint(image, x0, y0, x1 - x0, y1 - y0)
        writer.write(image[..., ::-1])
    writer.release()
    return path


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "cards.avi", (0, 1))


@pytest.fixture
def boxes(tmp_path):
    """The first place of both."""
    path = tmp_path / "boxes.csv"
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["frame", "person", "x0", "y0", "x1", "y1"])
        rows.writerows([[0, person, *place(0, person)] for person in (0, 1)])
    return path


def read(folder, number, surface):
    return load_predictions(folder / "npz" / f"{number:06d}.npz", surface)


def test_two_people_are_followed_from_their_first_boxes(video, boxes, tmp_path, predictor):
    said = command.predict(video, out=tmp_path / "out", boxes=str(boxes), iuv=True)
    assert f"a subject in {FRAMES} of {FRAMES} images" in said
    for number in range(FRAMES):
        found = read(tmp_path / "out", number, predictor.surface)
        for person in (0, 1):
            x0, y0, x1, y1 = place(number, person)
            np.testing.assert_allclose(
                found[person].at([[(x0 + x1) / 2, (y0 + y1) / 2]]).coordinate[0, :2], 0.2, atol=0.03
            )
            np.testing.assert_allclose(found[person].subject_box(), [x0, y0, x1, y1], atol=6)
    overlay = cv2.VideoCapture(str(tmp_path / "out" / "overlay.webm"))
    assert (overlay.get(cv2.CAP_PROP_FRAME_COUNT), overlay.get(cv2.CAP_PROP_FPS)) == (FRAMES, 10)
    iuv = cv2.imread(str(tmp_path / "out" / "iuv" / "000003.png"), cv2.IMREAD_UNCHANGED)
    covered = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (place(3), place(3, 1)))
    assert (iuv[..., 0] > 0).sum() == pytest.approx(covered, rel=0.15)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_plays_the_overlay(video, boxes, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    command.predict(video, out=tmp_path / "out", boxes=str(boxes))
    (tmp_path / "page.html").write_text("<video muted src='out/overlay.webm'></video>")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        page.evaluate("document.querySelector('video').play()")
        page.wait_for_function("document.querySelector('video').currentTime > 0.2", timeout=60_000)
        size = page.evaluate("(v => [v.videoWidth, v.videoHeight])(document.querySelector('video'))")
        browser.close()
    assert size == [160, 120]


def test_a_subject_is_found_and_followed_without_any_box(tmp_path, predictor):
    command.predict(write_video(tmp_path / "card.avi", (1,)), out=tmp_path / "out", overlay=False)
    for number in range(FRAMES):
        box = read(tmp_path / "out", number, predictor.surface)[0].box
        x0, y0, x1, y1 = place(number, 1)
        assert abs(box[::2].mean() - (x0 + x1) / 2) < 8
        assert abs(box[1::2].mean() - (y0 + y1) / 2) < 8
    assert not (tmp_path / "out" / "overlay.webm").exists()


@pytest.mark.parametrize("overlay", [True, False])
def test_an_interrupted_command_goes_on(video, boxes, tmp_path, predictor, monkeypatch, overlay):
    options = {"boxes": str(boxes), "overlay": overlay}
    command.predict(video, out=tmp_path / "whole", **options)
    write, count = Output.write, 0

    def interrupted(self, *args):
        nonlocal count
        count += 1
        if count == 9:
            raise KeyboardInterrupt
        write(self, *args)

    monkeypatch.setattr(Output, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command.predict(video, out=tmp_path / "out", **options)
    monkeypatch.setattr(Output, "write", write)
    assert not list((tmp_path / "out").glob("overlay*"))
    assert len(list((tmp_path / "out" / "npz").iterdir())) == 8

    asked = []
    crops = predictor.crops
    monkeypatch.setattr(predictor, "crops", lambda wanted: asked.extend(wanted) or crops(wanted))
    command.predict(video, out=tmp_path / "out", **options)
    assert len(asked) == 2 * (FRAMES - 8)
    for number in range(FRAMES):
        one, other = (read(tmp_path / name, number, predictor.surface) for name in ("whole", "out"))
        np.testing.assert_allclose(one[0].box, other[0].box)
        np.testing.assert_array_equal(one[1].coordinate, other[1].coordinate)
    if overlay:
        files = [(tmp_path / name / "overlay.webm").read_bytes() for name in ("whole", "out")]
        assert len(files[0]) == len(files[1])
    assert "is complete" in command.predict(video, out=tmp_path / "out", **options)


def test_a_folder_of_photographs(tmp_path, card, predictor):
    (tmp_path / "photos").mkdir()
    for name, size in (("beach", (160, 120)), ("garden", (100, 140)), ("nobody", (50, 50))):
        image = np.zeros((50, 50, 3), np.uint8) if name == "nobody" else card(30, 20, 40, 60, size=size)
        write_image(tmp_path / "photos" / f"{name}.png", image)
    said = command.predict(tmp_path / "photos", out=tmp_path / "out")
    assert re.search(
        r"a subject in 2 of 3 images, [\d.e+]+ images/s after \d+\.\d s of looking for the subject, ", said
    )
    drawn = cv2.imread(str(tmp_path / "out" / "overlay" / "garden.png"))
    assert drawn.shape == (140, 100, 3)
    assert load_predictions(tmp_path / "out" / "npz" / "nobody.npz", predictor.surface) == {}
    listed = [{"image": name, "box": [30, 20, 70, 80]} for name in ("beach.png", "garden.png")]
    (tmp_path / "boxes.json").write_text(json.dumps(listed))
    command.predict(tmp_path / "photos", out=tmp_path / "given", boxes=str(tmp_path / "boxes.json"), batch=2)
    found = load_predictions(tmp_path / "given" / "npz" / "beach.npz", predictor.surface)[0]
    np.testing.assert_allclose(found.at([[50, 50]]).coordinate[0, :2], 0.2, atol=0.01)


def test_pictures_of_every_kind_among_other_files(tmp_path, card, predictor):
    folder = tmp_path / "Фото d'été"
    (folder / "old").mkdir(parents=True)
    (folder / "notes.txt").write_text("none")
    image = card(30, 20, 40, 60)
    grey = image.max(2)
    kinds = {
        "deep": image.astype(np.uint16) * 257,
        "clear": np.dstack([image, grey]),
        "wide": card(700, 4, 36, 32, (1600, 40)),
    }
    for name, one in {**kinds, "grey": grey, "tiny": image[:1, :1]}.items():
        colours = one[..., [2, 1, 0, *range(3, one.shape[2])]] if one.ndim == 3 else one  # OpenCV's order
        cv2.imencode(".png", np.ascontiguousarray(colours))[1].tofile(folder / f"{name}.png")
    said = command.predict(folder, out=tmp_path / "out")
    assert "of 5 images" in said
    for name in kinds:
        found = load_predictions(tmp_path / "out" / "npz" / f"{name}.npz", predictor.surface)[0]
        middle = [718, 20] if name == "wide" else [50, 50]
        np.testing.assert_allclose(found.at([middle]).coordinate[0, :2], 0.2, atol=0.02)
    assert cv2.imread(str(tmp_path / "out" / "overlay" / "wide.png")).shape == (40, 1600, 3)
    assert cv2.imread(str(tmp_path / "out" / "overlay" / "tiny.png")).shape == (1, 1, 3)


def test_a_box_that_reaches_out_of_the_picture(tmp_path, card, predictor):
    write_image(tmp_path / "a.png", card(-20, 20, 60, 60))
    (tmp_path / "b.csv").write_text("y1, x1, person, y0, x0\n80, 40, , 20, -20\n")
    command.predict(tmp_path / "a.png", out=tmp_path / "out", boxes=str(tmp_path / "b.csv"), iuv=True)
    found = load_predictions(tmp_path / "out" / "npz" / "a.npz", predictor.surface)[0]
    np.testing.assert_allclose(found.at([[20, 50]]).coordinate[0, :2], [0.27, 0.2], atol=0.02)
    assert np.isnan(found.at([[-5, 50]]).foreground[0])
    (tmp_path / "b.csv").write_text("left,top,width,height\n1,2,3,4\n")
    with pytest.raises(InputError, match=r"b\.csv.*or, of boxes, frame or image, x0"):
        command.predict(tmp_path / "a.png", out=tmp_path / "other", boxes=str(tmp_path / "b.csv"))


def test_the_overlay_is_as_sharp_as_the_image_and_colours_only_the_subject(tmp_path, card):
    image = card(200, 100, 160, 240, size=(640, 480))
    image[::2, ::2][image[::2, ::2].max(2) == 0] = 20  # a pattern of single pixels
    write_image(tmp_path / "a.png", image)
    command.predict(tmp_path / "a.png", out=tmp_path / "out")
    drawn = cv2.imread(str(tmp_path / "out" / "overlay" / "a.png"))[..., ::-1].astype(int)
    outside = np.ones((480, 640), bool)
    outside[85:355, 185:375] = False
    np.testing.assert_array_equal(drawn[outside], image[outside])
    inner = drawn[150:290, 230:330]
    assert np.abs(inner - image[150:290, 230:330]).mean() > 20
    steps = np.abs(np.diff(inner[1::2, 1::2], axis=1)).max()  # of colours, from pixel to pixel: no blocks
    assert steps < 12


def test_errors_are_one_sentence_and_keep_what_is_written(tmp_path, capsys, video, card):
    def error_of(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(["predict", *map(str, words)])
        assert stopped.value.code == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        return lines[0]

    out = tmp_path / "out"
    assert "nowhere.mp4 is not there" in error_of(tmp_path / "nowhere.mp4", "--out", out)
    assert not out.exists()
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    assert "has no predict.json" in error_of(video, "--out", out)
    assert "margin is -1" in error_of(video, "--out", out, "--margin", "-1")

    folder = tmp_path / "images"
    folder.mkdir()
    write_image(folder / "a1.png", card(30, 20, 40, 60))
    (folder / "a2.png").write_bytes(b"no image")
    said = error_of(folder, "--out", tmp_path / "half", "--batch", "1")
    assert "a2.png cannot be decoded" in said
    assert said.endswith(f"; {tmp_path / 'half'} keeps the fields of 1 images")
    assert (tmp_path / "half" / "npz" / "a1.npz").is_file()
    assert "was begun with margin 0.15" in error_of(folder, "--out", tmp_path / "half", "--margin", "0.2")
    main(["predict", str(folder), "--out", str(tmp_path / "skip"), "--on-bad", "skip"])
    assert "1 could not be decoded" in capsys.readouterr().out

    write_image(tmp_path / "black.png", np.zeros((40, 40, 3), np.uint8))
    assert "no subject was found in any of 1 images" in error_of(tmp_path / "black.png", "--out", tmp_path / "none")


def test_the_settings_are_kept(tmp_path, card):
    write_image(tmp_path / "a.png", card(30, 20, 40, 60))
    command.predict(tmp_path / "a.png", out=tmp_path / "out", margin=0.25)
    assert json.loads((tmp_path / "out" / "predict.json").read_text())["margin"] == 0.25
    (tmp_path / "out" / "predict.json").write_text("{")
    with pytest.raises(InputError, match=r"predict\.json cannot be read"):
        command.predict(tmp_path / "a.png", out=tmp_path / "out")
