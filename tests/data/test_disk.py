"""Tests of the cache of decoded views on disk."""

import json
import logging
import multiprocessing
import os
import pickle
import re
import resource
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dkp import files
from dkp.captures import Capture
from dkp.captures.images import write_image
from dkp.captures.labels import write_npz
from dkp.data import (
    Augmentation,
    CaptureImages,
    LabelledDataModule,
    LabelledViews,
    MultiviewInstants,
    cache as cache_module,
    disk,
)
from dkp.data.columns import Columns, mapped
from dkp.errors import InputError

AUGMENTATION = Augmentation(rotate=40, geometric=1.0)


def finished(folder):
    """The finished folders of a cache; there is nothing else in it."""
    found = sorted(folder.iterdir())
    assert all(re.fullmatch("[0-9a-f]{64}", one.name) for one in found), found
    return found


def same(one, other):
    """Whether two samples, or parts of them, are equal bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return type(one) is type(other) and one == other


@contextmanager
def no_images():
    """Reading a file of a view is an error."""

    def never(self, view):
        raise AssertionError(f"{view.image} is read again")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("image", "mask", "label", "points", "truth"):
            patch.setattr(Capture, name, never)
        yield


def samples(images, kind):
    """All samples of a data set."""
    if kind == "labelled":
        made = LabelledViews([images], 64, 2, AUGMENTATION, "noise")
        return [made[index, serial] for index in range(len(made)) for serial in (1, 2)]
    augmentation = None if kind == "evaluation" else AUGMENTATION
    views, labels = (None, True) if kind == "evaluation" else (2, False)
    made = MultiviewInstants([images], 64, 2, views, augmentation=augmentation, labels=labels)
    return [made[index, 1] for index in range(len(made))]


CASES = {
    "labelled": ("labelled", {"require_labels": True}),
    "charts": ("labelled", {"require_labels": True, "charts": True}),
    "some": ("labelled", {"require_labels": True, "frames": ["f01", "f02"], "cameras": ["cam_0", "cam_2"]}),
    "unlabelled": ("unlabelled", {"labels": False}),
    "truth flow": ("unlabelled", {"labels": False, "next_frame": "truth"}),
    "flow": ("unlabelled", {"labels": False, "next_frame": "flow"}),
    "evaluation": ("evaluation", {"joints": ("nose", "neck"), "truth": True, "min_foreground": 0}),
}


@pytest.mark.parametrize("case", CASES)
def test_samples_are_the_same_and_files_are_read_once(capture, tmp_path, caplog, case):
    kind, options = CASES[case]
    expected = samples(CaptureImages(capture, None, 128, **options), kind)
    caplog.set_level(logging.INFO, "dkp.data")
    made = CaptureImages(capture, None, 128, **options, cache=tmp_path)
    with no_images():
        taken = CaptureImages(Capture.open(capture.path), None, 128, **options, cache=tmp_path)
    (place,) = finished(tmp_path)
    lines = [record.getMessage() for record in caplog.records if record.name == "dkp.data"]
    size = sum(file.stat().st_size for file in place.glob("*.npy")) / 1e6
    assert [line.split(" MB ")[1] for line in lines] == [
        f"of decoded views {how} the cache {place}" for how in ("written to", "taken from")
    ]
    assert float(re.search(r": ([0-9.]+) MB", lines[0])[1]) == pytest.approx(size, abs=0.1)
    assert not taken.images.flags.writeable
    for images in (made, taken, pickle.loads(pickle.dumps(taken))):
        assert images.images.shape == (len(images), 128, 128, 3)
        found = samples(images, kind)
        assert len(found) == len(expected)
        assert all(same(*both) for both in zip(found, expected, strict=True))


def test_points_and_lenses(make_capture, tmp_path):
    import torch

    capture = make_capture(tmp_path / "sparse", frames=2, labels="sparse", distortion=torch.tensor([-0.2, 0, 0, 0, 0]))
    for charts in (False, True):
        options = {"require_labels": True, "charts": charts, "cache": tmp_path / "cache"}
        expected = samples(CaptureImages(capture, None, 64, require_labels=True, charts=charts), "labelled")
        CaptureImages(capture, None, 64, **options)
        with no_images():
            taken = CaptureImages(capture, None, 64, **options)
        assert set(taken.points) == {*range(8)}
        assert 8 not in taken.points
        assert all(same(*both) for both in zip(samples(taken, "labelled"), expected, strict=True))


def test_bad_data_are_told_of_again(make_capture, tmp_path, caplog):
    capture = make_capture(tmp_path / "c", frames=2, size=32, empty=[("f00", "cam_3")])
    (capture.path / capture.views[5].image).write_bytes(b"no image")
    (capture.path / capture.views[6].mask).unlink()
    write_npz(capture.path / "truth" / "f01.npz", {"vertices": np.full((len(capture.surface.vertices), 3), np.nan)})
    plain = CaptureImages(capture, None, 32, truth=True)
    told = list(caplog.messages)
    assert len(told) == 3
    expected = samples(plain, "evaluation")
    for _ in range(2):
        caplog.clear()
        images = CaptureImages(capture, None, 32, truth=True, cache=tmp_path / "cache")
        assert caplog.messages == told
        assert (images.bad, images.skipped, len(images)) == (plain.bad, 1, 5)
        assert all(same(*both) for both in zip(samples(images, "evaluation"), expected, strict=True))
    with pytest.raises(InputError, match=r"data\.on_bad skip"):
        CaptureImages(capture, None, 32, on_bad="raise", cache=tmp_path / "cache")
    with pytest.raises(InputError, match="none of its 6 views has a mask"):
        CaptureImages(capture, None, 32, min_foreground=10**6, cache=tmp_path / "cache")
    assert len(finished(tmp_path / "cache")) == 1


def test_a_change_makes_another_key(make_capture, tmp_path, monkeypatch):
    capture = make_capture(tmp_path / "c", frames=2, size=32)
    cache = tmp_path / "cache"

    def keys(**options):
        images = CaptureImages(Capture.open(capture.path), None, 32, **options, cache=cache)
        return len(finished(cache)), images

    assert keys()[0] == keys(joints=["nose"])[0] == keys(threads=1)[0] == 1
    changes = [
        {"labels": False}, {"require_labels": True}, {"charts": True}, {"cameras": ["cam_0"]}, {"frames": ["f01"]},
        {"next_frame": "flow"}, {"next_frame": "truth"}, {"min_foreground": 3}, {"truth": True}, {"on_bad": "raise"},
    ]  # fmt: skip
    for number, options in enumerate(changes, 2):
        assert keys(**options)[0] == number
    count = len(finished(cache))
    view = capture.views[0]
    for name in (view.image, view.mask, view.label):
        os.utime(capture.path / name, ns=(1, os.stat(capture.path / name).st_mtime_ns + 1))
        count += 1
        assert keys()[0] == count
    write_image(capture.path / view.image, np.full((32, 32, 3), 200, np.uint8))
    count += 1
    found, images = keys()
    assert (found, int(images.images[0].min())) == (count, 200)
    manifest = capture.path / "capture.json"
    manifest.write_text(manifest.read_text() + " ")
    moved = capture.surface
    moved.vertices = moved.vertices * 1.01
    for change in (lambda: moved.save(capture.path / "surface.npz"), lambda: monkeypatch.setattr(disk, "DECODING", -1)):
        count += 1
        assert keys()[0] == count
        change()
    assert keys()[0] == count + 1
    # A copy with the same files, elsewhere, is the same.
    elsewhere = tmp_path / "elsewhere"
    capture.path.rename(elsewhere)
    CaptureImages(Capture.open(elsewhere), None, 32, cache=cache)
    assert len(finished(cache)) == count + 1


def test_a_change_while_it_is_read_is_an_error(make_capture, tmp_path, monkeypatch):
    capture = make_capture(tmp_path / "c", frames=1, size=32)
    read = Capture.image

    def change(self, view):
        os.utime(self.path / view.image)
        return read(self, view)

    monkeypatch.setattr(Capture, "image", change)
    with pytest.raises(InputError, match="changed while it was read"):
        CaptureImages(capture, None, 32, cache=tmp_path / "cache")
    assert finished(tmp_path / "cache") == []


def damage(place, fault):
    """Spoil a finished folder."""
    if fault == "no description":
        (place / "cache.json").unlink()
    elif fault == "description cut":
        (place / "cache.json").write_text((place / "cache.json").read_text()[:20])
    elif fault == "description of something else":
        (place / "cache.json").write_text(json.dumps([1]))
    elif fault == "array cut":
        os.truncate(place / "images.npy", 1000)
    elif fault == "array longer":
        with (place / "masks.npy").open("ab") as file:
            file.write(b"x")
    elif fault == "array missing":
        (place / "masks.npy").unlink()
    elif fault == "no array":
        size = (place / "masks.npy").stat().st_size
        (place / "masks.npy").write_bytes(bytes(size))


FAULTS = ["no description", "description cut", "description of something else", "array cut", "array longer"]
FAULTS += ["array missing", "no array"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_cache_is_made_anew(make_capture, tmp_path, caplog, fault):
    capture = make_capture(tmp_path / "c", frames=1, size=32)
    expected = samples(CaptureImages(capture, None, 32), "evaluation")
    CaptureImages(capture, None, 32, cache=tmp_path / "cache")
    (place,) = finished(tmp_path / "cache")
    damage(place, fault)
    caplog.clear()
    images = CaptureImages(capture, None, 32, cache=tmp_path / "cache")
    assert f"the cache {place} is damaged (" in caplog.text
    assert len(caplog.messages) == 1
    assert finished(tmp_path / "cache") == [place]
    assert all(same(*both) for both in zip(samples(images, "evaluation"), expected, strict=True))
    with no_images():
        CaptureImages(capture, None, 32, cache=tmp_path / "cache")


def test_a_cache_that_goes_away_cannot_be_sent_to_a_process(make_capture, tmp_path):
    capture = make_capture(tmp_path / "c", frames=1, size=32)
    images = CaptureImages(capture, None, 32, cache=tmp_path / "cache")
    sent = pickle.dumps(images)
    assert len(sent) < images.nbytes() / 2 + len(pickle.dumps(images.surface))
    damage(finished(tmp_path / "cache")[0], "array missing")
    assert images.masks.any()
    with pytest.raises(InputError, match=r"cannot be opened again \(.*masks\.npy"):
        pickle.loads(sent)


def test_a_full_disk_is_an_error_and_leaves_nothing(make_capture, tmp_path):
    capture = make_capture(tmp_path / "c", frames=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))  # of one file, as if the disk had no room for more
    try:
        with pytest.raises(
            InputError, match=rf"the cache {tmp_path}/cache cannot be written \(File too large\), expec"
        ):
            CaptureImages(capture, None, 128, cache=tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert finished(tmp_path / "cache") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file cannot be written"):
        CaptureImages(capture, None, 128, cache=tmp_path / "file")


def read_slowly(path, cache, begun):
    """A process that reads a capture slowly, once all have begun."""
    image = Capture.image

    def slow(self, view):
        (cache.parent / f"read-{os.getpid()}").write_text("")
        time.sleep(0.02)
        return image(self, view)

    Capture.image = slow
    begun.wait()
    images = CaptureImages(Capture.open(path), None, 32, threads=1, cache=cache)
    np.save(cache.parent / f"found-{os.getpid()}.npy", images.images)


def without_locks(path, cache, begun):
    """The same where processes do not know of each other."""
    files.fcntl = None
    read_slowly(path, cache, begun)


@pytest.mark.parametrize(("target", "readers"), [(read_slowly, 1), (without_locks, 3)])
def test_processes_at_once(make_capture, tmp_path, target, readers):
    capture = make_capture(tmp_path / "c", frames=2, size=32)
    context = multiprocessing.get_context("fork")
    begun = context.Barrier(3)
    processes = [context.Process(target=target, args=(capture.path, tmp_path / "cache", begun)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(list(tmp_path.glob("read-*"))) == readers
    assert len(finished(tmp_path / "cache")) == 1
    found = [np.load(path) for path in tmp_path.glob("found-*")]
    assert len(found) == 3
    assert all((one == CaptureImages(capture, None, 32).images).all() for one in found)


def test_what_a_killed_process_leaves_is_not_read(make_capture, tmp_path):
    capture = make_capture(tmp_path / "c", frames=2, size=32)
    cache = tmp_path / "cache"
    context = multiprocessing.get_context("fork")
    process = context.Process(target=read_slowly, args=(capture.path, cache, context.Barrier(1)))
    process.start()
    while not list(cache.glob("*.partial-*/images.npy")):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (partial,) = cache.glob("*.partial-*")
    assert CaptureImages(capture, None, 32, cache=cache).images.any()
    assert partial.is_dir(), "another process may still write it"
    for path in (partial, *partial.iterdir()):
        os.utime(path, (0, 0))
    CaptureImages(capture, None, 16, cache=cache)
    assert len(finished(cache)) == 2


def test_workers_and_modules(make_capture, tmp_path):
    path = make_capture(tmp_path / "c", frames=4, size=32).path

    def batches(**options):
        module = LabelledDataModule(train=f"{path}#", test=f"{path}#", batch_size=4, size=16, **options)
        module.setup("fit")
        module.setup("test")
        training = [batch["labelled"] for batch, *_ in module.train_dataloader()]
        return [*training, *module.test_dataloader()[0]]

    expected = batches(num_workers=0)
    for workers in (0, 2):
        found = batches(num_workers=workers, cache=str(tmp_path / "cache"))
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert one.keys() == other.keys()
            assert (one["image"] == other["image"]).all()
            assert (one["coordinate"] == other["coordinate"]).all()
    assert len(finished(tmp_path / "cache")) == 2


def anonymous():
    """Bytes of this process that no file backs."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def grow(path, cache, pipe):
    """Send how much the process grows by opening a capture, and how large it is."""
    cache_module.CHUNK = 32
    capture = Capture.open(path)
    CaptureImages(capture, None, 128, frames=["f00"])  # whatever is loaded once
    before = anonymous()
    images = CaptureImages(capture, None, 128, cache=cache)
    pipe.send((anonymous() - before, images.nbytes(), len(images)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_capture_may_be_larger_than_memory(make_capture, tmp_path, monkeypatch):
    """Many views: those of a small capture under many names."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # or each thread keeps memory of its own, by chance more or less
    capture = make_capture(tmp_path / "c", frames=2)
    file = capture.path / "views.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows = [row | {"frame": f"f{time:02d}", "time": time} for time in range(50) for row in rows[:4]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    context = multiprocessing.get_context("spawn")
    found = {}
    for name, cache in (("memory", None), ("made", tmp_path / "cache"), ("taken", tmp_path / "cache")):
        ours, theirs = context.Pipe()
        process = context.Process(target=grow, args=(capture.path, cache, theirs))
        process.start()
        found[name], size, views = ours.recv()
        process.join()
        assert views == 200
    assert size > 37e6
    assert found["memory"] > 0.9 * size
    assert found["made"] < 0.4 * size  # 32 views at a time are 16 % of it
    assert found["taken"] < 0.05 * size


def test_columns(tmp_path):
    for folder in (None, tmp_path):
        columns = Columns(folder)
        columns.begin("a", (2,), np.float16)
        columns.begin("none", (3, 4), bool)
        for number in range(1000):
            columns.append("a", np.full(2, number, np.float16))
        columns.extend("a", np.zeros((5, 2), np.float16))
        assert columns.length("a") == 1005
        with pytest.raises(ValueError, match="float64"):
            columns.append("a", np.zeros(2))
        with pytest.raises(ValueError, match=r"\(3,\)"):
            columns.append("a", np.zeros(3, np.float16))
        arrays = columns.end()
        columns.begin("b", (), np.int64)
        columns.append("b", 7)
        assert columns.end().keys() == {"a", "none", "b"}
        columns.close()
        assert arrays["a"].shape == (1005, 2)
        assert arrays["a"][999].tolist() == [999, 999]
        assert arrays["none"].shape == (0, 3, 4)
    assert mapped(tmp_path / "b.npy").tolist() == [7]
