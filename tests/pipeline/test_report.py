"""`dkp report` of folders as runs leave them, with detectors that have learned nothing."""

import json
import re
import shutil

import pytest
import torch
import yaml

from dkp.captures import Capture
from dkp.cli import main
from dkp.errors import InputError
from dkp.geometry import pairwise_epipolar_distance
from dkp.models import Detector
from dkp.pipeline.figure import draw_figure
from dkp.pipeline.report import opened, pair_matrices

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = {"width": 4, "levels": 3, "surface_centre": [0.2, 0.2, 0.0], "surface_half_extent": [0.2, 0.2, 0.001]}


def write_run(folder, capture, error):
    """A run of two steps with metrics, and a detector that takes everything for foreground."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "test").mkdir()
    detector = Detector(**OPTIONS)
    for name, value in detector.state_dict().items():
        if name.endswith("bias") and value.shape == (1,):
            value.fill_(2.0)
    state = {f"detector.{name}": value for name, value in detector.state_dict().items()}
    torch.save({"state_dict": state}, folder / "checkpoints" / "last.ckpt")
    config = {
        "source": "<captures & co>",
        "model": {"init_args": {"detector": {"class_path": "dkp.models.Detector", "init_args": OPTIONS}}},
        "data": {"init_args": {"test": f"{capture}#test", "size": 32, "stride": 2, "hide_background": "no"}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [
        "step,train/loss,train/multiview,train/multiview/weight,train/multiview/gradient_norm",
        "0,3,3,1,",
        "1,2,2,1,5",
    ]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    metrics = {"test/geodesic_median_cm": error, "test/trivial/epipolar_median_px": 5.0, "test/pair/a-b/x": 1.0}
    (folder / "test" / "metrics.json").write_text(json.dumps({"metrics": metrics, "commit": "abc1234567"}))


@pytest.fixture(scope="module")
def job(planes, tmp_path_factory):
    """A folder with two runs."""
    folder = tmp_path_factory.mktemp("job")
    for name, error in (("control", 9.0), ("adapted", 4.0)):
        write_run(folder / name, planes / "mine", error)
    return folder


def test_runs_beside_each_other(job, capsys):
    main(["report", str(job / "control"), str(job / "adapted"), "--out", str(job / "both.html")])
    assert "both.html" in capsys.readouterr().out
    text = (job / "both.html").read_text()
    assert "&lt;captures &amp; co&gt;" in text
    assert text.count("<td>commit</td><td>abc1234567</td>") == 2
    assert "<td>geodesic error, median [cm] ↓</td><td>9.00</td><td><b>4.00</b></td><td>–</td>" in text
    assert text.count("data:image/png") == 4
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)"', text))


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_click_shows_matches_and_lines(job, planes, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    main(["report", str(job / "control"), str(job / "adapted"), "--out", str(tmp_path / "both.html")])
    frame = re.search(r"Instant (\S+) of", (tmp_path / "both.html").read_text())[1]
    capture = Capture.open(planes / "mine")
    views = {view.camera: view for view in capture.frames[frame].views}
    place = torch.from_numpy(capture.surface.vertices).double().mean(0, keepdim=True)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 900})
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((tmp_path / "both.html").as_uri())
        page.wait_for_selector("body[data-ready=yes]", timeout=120_000)
        assert page.locator("#run option").all_inner_texts() == ["adapted", "control"]
        names = page.locator("#matching figcaption").all_inner_texts()
        seen = {}
        for name in names:  # images are shown as 32 px, two pixels of the page each
            pixel, _ = capture.camera(views[name]).project(place)
            seen[name] = pixel[0].numpy() * 32 / views[name].size[0]
        x, y = 2 * seen[names[0]]
        page.locator("#matching canvas").nth(0).click(position={"x": float(x), "y": float(y)})
        assert "from the line" in page.inner_text("#said")
        for number, name in enumerate(names[1:], start=1):
            figure = page.locator("#matching figure").nth(number)
            a, b, c = (float(value) for value in figure.get_attribute("data-line").split(","))
            assert abs(a * seen[name][0] + b * seen[name][1] + c) < 0.7  # a click is at a whole pixel of the page
            *best, match = (float(value) for value in figure.get_attribute("data-best").split(","))
            assert 0 < match <= 1
            assert 0 < min(best) < max(best) < 32
        page.select_option("#run", "control")
        assert page.locator("#matching figure").nth(1).get_attribute("data-line")
        page.locator("#matching").screenshot(path=tmp_path / "matching.png")
        browser.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [(tmp_path / "both.html").as_uri()]


def test_a_folder_of_runs_is_all_of_them(job, capsys):
    assert [run.name for run in opened(job)] == ["control", "adapted"]
    assert opened(job)[0].curves()["train/multiview/gradient_norm"] == [(1, 5.0)]
    assert "pair/a-b/x" not in opened(job)[1].metrics()
    main(["report", str(job)])
    assert (job / "report.html").is_file()


def test_a_run_without_a_checkpoint_has_no_pictures(job, planes, tmp_path):
    write_run(tmp_path / "young", planes / "mine", 1.0)
    (tmp_path / "young" / "checkpoints" / "last.ckpt").unlink()
    (tmp_path / "young" / "metrics.csv").unlink()
    main(["report", str(tmp_path / "young")])
    text = (tmp_path / "young" / "report.html").read_text()
    assert "No pictures" in text
    assert "data:image/png" not in text


def test_what_is_no_run_is_refused(planes, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(planes)])
    assert stopped.value.code == 2
    assert "no config.yaml" in capsys.readouterr().err


def test_the_matrices_of_exact_fields_agree(planes):
    """Pixels that match lie on each other's lines; the order is that of height."""
    surface = Capture.open(planes / "mine").surface
    at = (torch.arange(8) + 0.5) / 8 * 0.4
    field = torch.stack([at.expand(8, 8), at[:, None].expand(8, 8), torch.zeros(8, 8)])
    # the second view is the first moved along x, in pixels of 2
    other = field.clone()
    other[0] -= 0.1
    fundamental = torch.tensor([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    match, distance = pair_matrices(torch.stack([field, other]), torch.ones(2, 8, 8), fundamental, 2, surface)
    assert match.shape == distance.shape == (64, 64)
    assert distance[match > 0.99].max() < 1e-4
    assert (match > 0.99).sum() == 8 * 6
    assert distance[0, -1] > 10
    assert pairwise_epipolar_distance(torch.tensor([[1.0, 1]]), torch.tensor([[9.0, 4]]), fundamental) == 3


def test_the_figure_of_a_main_job(job, planes):
    with pytest.raises(InputError, match="no run teacher"):
        draw_figure(job)
    write_run(job / "teacher", planes / "mine", 9.0)
    assert draw_figure(job).stat().st_size > 10_000
