"""`dkp view`: what the page holds, and what Chromium makes of it."""

import re
import shutil

import cv2
import numpy as np
import pytest
import torch

from dkp.cli import main
from dkp.pipeline.view import view
from dkp.reconstruction import Reconstruction

SIDE = 64
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def board(tmp_path_factory, make_scene):
    """A capture of a moving board, and a reconstruction of it that is 2 cm off in the last instant."""
    folder = tmp_path_factory.mktemp("view")
    capture = make_scene().write(folder / "board")
    frames = list(capture.frames)
    truth = np.stack([capture.truth(frame) for frame in frames])
    off = truth + np.array([0, 0, 0.02]) * (np.arange(len(frames)) == len(frames) - 1)[:, None, None]
    shape = truth.shape[:2]
    points = off.copy()
    points[:, ::2] = np.nan
    Reconstruction(
        frame=np.array(frames),
        sequence=np.array(["all"] * len(frames)),
        time=np.arange(len(frames)),
        points=points,
        confidence=np.full(shape, 0.5),
        residual=np.zeros(shape),
        views=np.full(shape, 3, np.uint8),
        vertices=off,
        agreement=np.ones(len(frames)),
        seen=np.full(shape, 3, np.uint8),
        colour=np.full((*shape, 3), 100, np.uint8),
        keypoints=np.zeros((len(frames), 0, 3)),
        keypoint_names=np.zeros(0, "U1"),
        rest=capture.surface.vertices,
        faces=capture.surface.faces,
        up=np.array([0.0, 0, 1]),
        meta={"capture": str(capture.path), "fields": "labels", "smoothing_instants": 3.0},
    ).save(folder)
    return capture, folder


def test_captures_and_reconstructions_become_one_file_each(board, tmp_path, capsys):
    capture, folder = board
    main(["view", str(folder), "--out", str(tmp_path / "r.html"), "--side", str(SIDE)])
    assert re.search(r"wrote .*r.html \(0\.\d MB\)", capsys.readouterr().out)
    text = (tmp_path / "r.html").read_text()
    assert "4 of 4 instants" in text
    assert "smoothed over 3 instants" in text
    assert text.count("data:image/jpeg") == 12
    view(f"{capture.path}#test", str(tmp_path / "c.html"), side=SIDE)
    assert "posed surface" in (tmp_path / "c.html").read_text()
    view(str(capture.path), str(tmp_path / "few.html"), instants=2, side=SIDE)
    assert "2 of 4 instants" in (tmp_path / "few.html").read_text()


def test_a_capture_without_truth_shows_its_cameras(planes, tmp_path):
    view(str(planes / "mine"), str(tmp_path / "x.html"), instants=1, side=SIDE)
    text = (tmp_path / "x.html").read_text()
    assert '"surface":null' in text
    assert text.count("data:image/jpeg") == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["nowhere", "--out", "x.html"],
            "nowhere is not there, expected SOURCE: PATH, PATH#SPLIT or PATH#SPLIT:START:STOP:STEP of a capture",
        ),
        (["{plane}", "--out", "x.pdf"], "ends in .html"),
        (["{plane}", "--out", "x.html", "--instants", "0"], "instants is 0"),
    ],
)
def test_bad_input_ends_in_one_sentence(planes, capsys, words, expected):
    with pytest.raises(SystemExit) as stopped:
        main(["view", *(word.replace("{plane}", str(planes / "mine")) for word in words)])
    assert stopped.value.code == 2
    assert expected in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_chromium_draws_turns_and_marks(board, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    capture, folder = board
    view(str(folder), str(tmp_path / "v.html"), side=SIDE)
    flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 800, "height": 700})
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((tmp_path / "v.html").as_uri())
        page.wait_for_selector("body[data-ready=yes]", timeout=120_000)

        def pixels(selector):
            page.wait_for_timeout(200)
            raw = page.locator(selector).screenshot()
            return cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR).astype(int)

        page.uncheck("#cameras")
        first = pixels("#world")
        drawn = np.abs(first - first[2, 2]).max(-1) > 20
        assert 0.005 < drawn.mean() < 0.6
        page.locator("#template").click()
        said = page.inner_text("#picked")
        vertex = int(re.search(r"vertex (\d+)", said)[1])
        for number, name in enumerate(capture.cameras):
            (one,) = [one for one in capture.views if one.frame == "f_000" and one.camera == name]
            seen, _ = capture.camera(one).project(torch.from_numpy(capture.truth("f_000")[vertex]))
            width, height = one.size
            middle = np.array([0, (width - height) / 2])  # a square around the image
            expected = (seen.numpy()[0] + middle) * SIDE / width
            marked = page.locator("#images figure").nth(number).get_attribute("data-marked").split(",")
            np.testing.assert_allclose([float(value) for value in marked[:2]], expected, atol=0.1)
        page.locator("#time").fill("3")
        assert page.evaluate("document.body.dataset.time") == "3"
        assert page.inner_text("#frame") == "f_003"
        assert (np.abs(pixels("#world") - first).max(-1) > 20).mean() > 0.002
        page.select_option("#colour", label="error")
        assert "error: 20.0 mm" in page.inner_text("#picked")
        assert page.locator("#legend").is_visible()
        assert page.inner_text("#most") == "50 mm or more"
        browser.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith("data:")] == [(tmp_path / "v.html").as_uri()]
