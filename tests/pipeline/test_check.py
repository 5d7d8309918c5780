"""The page of `dkp check`: lines that pass through what they should, a cause, and nothing asked of other machines."""

import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dkp.captures import Capture, CaptureWriter
from dkp.captures.images import write_image
from dkp.cli import main
from dkp.geometry import Camera
from dkp.pipeline.check import check, epipolar_curve

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LENS = (-0.2, 0.05, 0.002, -0.001, 0.01)


def views_of(page):
    """Every drawn view: camera, points by colour, and lines by colour, each of them pieces (N, 2)."""
    for name, inner in re.findall(r'<svg class="view".*?aria-label="(.*?)".*?>(.*?)</svg>', page, re.S):
        found = re.findall(r'<circle cx="(.*?)" cy="(.*?)" .*?fill="(.*?)"', inner)
        points = {colour: np.array([float(x), float(y)]) for x, y, colour in found}
        lines = {}
        for colour, corners in re.findall(r'<polyline stroke="(.*?)" points="(.*?)"', inner):
            lines.setdefault(colour, []).append(np.array([word.split(",") for word in corners.split()], float))
        yield name, points, lines


def apart(point, pieces):
    """Distance of a point from a line of corners."""
    least = np.inf
    for piece in pieces:
        start, step = piece[:-1], np.diff(piece, axis=0)
        share = ((point - start) * step).sum(1) / np.maximum((step**2).sum(1), 1e-12)
        least = min(least, np.linalg.norm(start + np.clip(share, 0, 1)[:, None] * step - point, axis=1).min())
    return least


@pytest.mark.parametrize("turned", [False, True])
def test_lines_pass_through_the_points_of_their_colour_if_the_cameras_are_right(make_scene, tmp_path, turned):
    scene = make_scene(distortion=LENS)
    cameras = dict(scene.cameras())
    if turned:
        given = cameras["cam_2"]
        cameras["cam_2"] = Camera.create(
            given.intrinsics, given.rotation.mT, given.translation, given.distortion, given.image_size
        )
    with CaptureWriter(tmp_path / "c", name="a <b>", surface=scene.surface, cameras=cameras) as writer:
        for time in range(4):
            for name, camera in scene.cameras().items():
                label = scene.label(camera, time)
                writer.add_view(f"f{time}", name, np.zeros((80, 96, 3), np.uint8), time=time, label=label)
        writer.splits = {"train": [f"f{time}" for time in range(4)]}
    check(tmp_path / "c", html=tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text()
    distances = {}
    for name, points, lines in views_of(page):
        distances.setdefault(name, []).extend(apart(points[colour], lines[colour]) for colour in points.keys() & lines)
    assert all(len(found) > 20 for found in distances.values())
    assert (max(distances["cam_2"]) > 3) == turned
    assert (max(distances["cam_0"]) < 0.3) != turned
    assert "a &lt;b&gt;" in page
    assert ("the rotation of cam_2 looks transposed" in page) == turned
    assert ("Nothing looks wrong." in page) != turned
    assert ("Likely cause" in page) == turned


def test_without_points_there_is_a_grid_and_a_bad_image_does_not_stop_the_page(planes, tmp_path, capsys):
    shutil.copytree(planes / "mine", tmp_path / "c")
    capture = Capture.open(tmp_path / "c")
    (tmp_path / "c" / capture.views[0].image).write_bytes(b"x")
    with pytest.raises(SystemExit):
        main(["check", str(tmp_path / "c"), "--html", str(tmp_path / "c.html")])
    assert f"dkp: wrote {tmp_path / 'c.html'}" in capsys.readouterr().err
    page = (tmp_path / "c.html").read_text()
    assert "cannot be decoded" in page
    found = list(views_of(page))
    assert found
    assert all(lines or points for _, points, lines in found)
    with pytest.raises(SystemExit):
        main(["check", str(tmp_path / "c"), "--html", "x.pdf"])
    assert "html is x.pdf, expected the name of a page that ends in .html" in capsys.readouterr().err


def test_a_curve_is_where_the_points_of_a_line_of_sight_are_seen(make_scene):
    cameras = list(make_scene(distortion=LENS).cameras().values())
    pixel = cameras[0].project(torch.tensor([[0.05, 0.02, 0.01]]))[0]
    curve = epipolar_curve(cameras[0], cameras[1], pixel[0].tolist())
    for depth in (0.9, 1.0, 1.1):
        away = depth * torch.linalg.norm(cameras[0].centre())
        seen = cameras[1].project(cameras[0].centre() + away * cameras[0].rays(pixel))[0][0].numpy()
        assert apart(seen, [curve]) < 0.05


@pytest.mark.parametrize("zoom", [1.0, 400.0])
@pytest.mark.parametrize("lens", [(0.0,) * 5, LENS])
def test_a_curve_crosses_the_whole_image_of_any_lens(make_scene, zoom, lens):
    """As long a lens, or as tight a crop, shows few millimetres of a line of sight."""
    cameras = list(make_scene(distortion=lens).cameras().values())
    point = torch.tensor([[0.05, 0.02, 0.01]], dtype=torch.float64)
    tight = []
    for camera in cameras[:2]:
        middle = camera.project(point)[0][0]
        x, y = (50 - zoom * middle).tolist()
        tight.append(camera.transform(np.array([[zoom, 0, x], [0, zoom, y], [0, 0, 1.0]]), 100, 100))
    curve = epipolar_curve(*tight, [50.0, 50.0])
    assert apart(np.array([50.0, 50.0]), [curve]) < 0.01 * zoom**0.5
    assert all((end < 0.5).any() or (end > 99.5).any() for end in (curve[0], curve[-1]))
    assert len(epipolar_curve(*tight, [50.0, 50.0 + 1000])) == 0  # passes far beside the image


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_chromium_draws_images_and_lines_and_asks_for_nothing(make_scene, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    capture = make_scene().write(tmp_path / "c")
    for view in capture.views:
        write_image(capture.path / view.image, np.full((80, 96, 3), (0, 0, 200), np.uint8))
    check(capture.path, html=tmp_path / "c.html")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.goto((tmp_path / "c.html").as_uri())
        raw = page.locator("svg.view").first.screenshot()
        browser.close()
    shown = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR).astype(int)
    blue = (np.abs(shown - [200, 0, 0]).max(-1) < 30).mean()
    assert 0.5 < blue < 0.98  # the image, and lines over it
    assert asked == [(tmp_path / "c.html").as_uri()]
    assert wrong == []


@pytest.mark.skipif("DKP_DATA" not in os.environ, reason="DKP_DATA is not set")
def test_exchanged_videos_of_a_real_person_are_named(tmp_path):
    person = Path(os.environ["DKP_DATA"]) / "person"
    (tmp_path / "videos").mkdir()
    for camera, video in (("01", "03"), ("02", "02"), ("03", "01"), ("04", "04")):
        (tmp_path / "videos" / f"cam{camera}.mp4").symlink_to(person / f"cam{video}.mp4")
    words = ["import", "recording", str(person / "calib_refined.toml"), str(tmp_path / "videos"), str(tmp_path / "c")]
    words += ["--unit", "m", "--detections", str(person / "pose"), "--frame-map", "auto", "--frames", "0:60:15"]
    main([*words, "--masks", "none", "--workers", "1"])
    report = check(tmp_path / "c")
    assert [finding.cameras for finding in report.findings] == [["cam_01", "cam_03"]]
    assert "the images of cam_01 and cam_03 look exchanged: a detector sees " in report.warnings[0]
    assert check(tmp_path / "c", ckpt_path="none").warnings == []
