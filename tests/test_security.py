"""Nothing that is read runs code, leaves its folder, or fills the memory; no call that could, is in the package."""

import ast
import hashlib
import importlib
import io
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from dkp.captures import Capture
from dkp.captures.labels import read_npz
from dkp.cli import main
from dkp.errors import InputError
from dkp.importers.cameras.registry import read_cameras
from dkp.models import Detector, load_detector, save_detector
from dkp.surface import Surface

PACKAGE = Path(__file__).parents[1] / "dkp"
CONFIGS = PACKAGE.parent / "configs"
import_person = importlib.import_module("dkp.importers.datasets.person")


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def sprung(tmp_path):
    """The file that a trap makes; it must not be there in the end."""
    path = tmp_path / "sprung"
    yield path
    assert not path.exists()


# Weights and checkpoints


def test_encoder_weights_are_not_unpickled(sprung, tmp_path):
    torch.save({"state_dict": {"weight": Trap(sprung)}}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match=r"encoder_weights .* neither safetensors nor a plain torch weights file"):
        Detector("test_resnet", encoder_weights=str(tmp_path / "evil.pt"))


def test_a_description_of_a_detector_builds_nothing_else(sprung, tmp_path):
    path = save_detector(Detector(width=8, levels=3), tmp_path / "a")
    sheet = path.with_suffix(".json")
    content = json.loads(sheet.read_text())
    for harmful in (
        {"class_path": "os.mkdir", "init_args": {"path": str(sprung)}},
        {**content["detector"], "encoder": f"local-dir:{tmp_path}"},
        {**content["detector"], "encoder": "hf-hub:someone/something"},
    ):
        sheet.write_text(json.dumps({**content, "detector": harmful}))
        with pytest.raises(InputError, match=r"do not describe a detector|encoder is '(local-dir|hf-hub):"):
            load_detector(path)


@pytest.mark.parametrize("command", ["fit", "test"])
def test_checkpoints_are_not_unpickled(command, planes, sprung, tmp_path, capsys):
    evil = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": Trap(sprung)}, evil)
    files = ("board/teacher", "debug/fast")
    words = [command, *(f"--config={CONFIGS / file}.yaml" for file in files), f"--root={tmp_path}", "--size=32"]
    words += [f"--source={planes / 'mine'}", f"--target={planes / 'mine'}", f"--surface={planes / 'mine/surface.npz'}"]
    words += ["--model.detector.init_args.width=8", "--model.detector.init_args.levels=3"]
    for further, expected in (
        ([f"--ckpt_path={evil}"], "holds more than tensors"),
        ([f"--ckpt_path={evil}", "--weights_only=false"], "a checkpoint is never unpickled"),
        (["--ckpt_path=http://127.0.0.1:9/evil.ckpt"], "does not exist"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([*words, *further])
        assert stopped.value.code == 2
        assert expected in capsys.readouterr().err


# Captures


@pytest.fixture
def capture(planes, tmp_path):
    """Changes a key of one of the two JSON files of a capture, and returns its folder."""
    folder = Path(shutil.copytree(planes / "mine", tmp_path / "capture"))

    def change(**keys):
        if "surface" in keys or "cameras" in keys:
            path = folder / "capture.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))
        else:
            path = folder / "views.jsonl"
            first, *rest = path.read_text().splitlines()
            path.write_text("\n".join([json.dumps({**json.loads(first), **keys}), *rest]) + "\n")
        return folder

    return change


OUTSIDE = ["/etc/passwd", "../mine/a.png", "images/../../a.png", "C:/a.png", "C:a.png", "\\\\host\\a.png", "a\x00.png"]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("key", ["image", "mask", "label", "points"])
def test_files_of_a_capture_lie_inside_it(key, path, capture):
    with pytest.raises(InputError, match=rf"{key} is .* expected a relative path inside the capture"):
        Capture.open(capture(**{key: path}))


@pytest.mark.parametrize("surface", ["/etc/passwd", "../body.obj", "body.obj", "body.NPZ", "/a/surface.npz", "C:a.npz"])
def test_the_surface_of_a_capture_lies_inside_it(surface, capture):
    with pytest.raises(InputError, match=r"surface is .* expected (the name of a shipped surface|a relative path)"):
        Capture.open(capture(surface=surface))


@pytest.mark.parametrize("frame", ["../f0", "/f0", "a/b", "..", "C:f0", ""])
def test_names_of_frames_are_no_paths(frame, capture):
    """Predictions are written to FRAME/CAMERA.npz."""
    with pytest.raises(InputError, match=r"frame is .* expected a name"):
        Capture.open(capture(frame=frame))


def test_a_class_path_in_a_capture_is_an_unknown_key(capture, sprung):
    with pytest.raises(InputError, match="class_path"):
        Capture.open(capture(class_path="os.mkdir", init_args={"path": str(sprung)}))


# Arrays and archives


def test_surfaces_are_not_unpickled(sprung, tmp_path):
    np.savez(tmp_path / "a.npz", vertices=np.array([Trap(sprung)], dtype=object), faces=np.zeros((1, 3), int))
    with pytest.raises(InputError, match=r"not a plain \.npz"):
        Surface.load(tmp_path / "a.npz")


@pytest.mark.parametrize("meta", ["{", "[1]"])
def test_what_is_said_of_a_surface_is_plain_json(meta, planes, tmp_path):
    with np.load(planes / "mine" / "surface.npz") as data:
        arrays = {key: data[key] for key in data.files}
    np.savez(tmp_path / "a.npz", **{**arrays, "meta": np.array(meta)})
    with pytest.raises(InputError, match=r"a\.npz: found"):
        Surface.load(tmp_path / "a.npz")


def test_arrays_that_unpack_to_gigabytes_are_refused_unread(tmp_path):
    """Two gigabytes of zeros, in a file of two megabytes."""
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (2**31,)})
        with archive.open("face.npy", "w", force_zip64=True) as member:
            member.write(buffer.getvalue())
            for _ in range(32):
                member.write(bytes(2**26))
    with pytest.raises(InputError, match="face unpacks to 2147483776 bytes"):
        read_npz(tmp_path / "bomb.npz", ("face",))


def test_a_fetched_archive_unpacks_into_its_folder_only(tmp_path, monkeypatch):
    """Even if the known package were a hostile one."""
    work = tmp_path / "work"
    work.mkdir()
    wheel = work / "pose2sim-0.6.1-py3-none-any.whl"

    def download(command, **_):
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in ("../../up", "/tmp/absolute", "good"):
                archive.writestr(f"{name}/Demo/BalancingTrial/{tmp_path.name}.txt", "content")
        monkeypatch.setattr(import_person, "DIGEST", hashlib.sha256(wheel.read_bytes()).hexdigest())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    demo = import_person.fetch_demo(work)
    unpacked = list(tmp_path.rglob(f"{tmp_path.name}.txt"))
    assert len(unpacked) == 3
    assert all(demo in path.parents for path in unpacked)
    assert not Path(f"/tmp/absolute/Demo/BalancingTrial/{tmp_path.name}.txt").exists()


# XML

LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
BODY = "<calibration><cameras><camera serial='&x;'/></cameras></calibration>"
HOSTILE = {
    "many entities": f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]>{BODY.replace("&x;", "&l9;")}',
    "a file as an entity": f'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>{BODY}',
    "an address as an entity": f'<!DOCTYPE a [<!ENTITY x SYSTEM "http://127.0.0.1:9/">]>{BODY}',
    "a document type elsewhere": f'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">{BODY}',
    "small letters": f'<!doctype a [<!entity x "y">]>{BODY}',
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_xml_with_entities_is_refused(content, tmp_path):
    (tmp_path / "a.qca.txt").write_text(content)
    with pytest.raises(InputError, match="declares a document type or entities"):
        read_cameras(tmp_path / "a.qca.txt", "qualisys")


def test_xml_in_another_encoding_does_not_hide_entities(tmp_path):
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-7"):
        content = f"<?xml version='1.0' encoding='{encoding}'?>" + HOSTILE["a file as an entity"]
        (tmp_path / "a.qca.txt").write_bytes(content.encode(encoding))
        with pytest.raises(InputError):
            read_cameras(tmp_path / "a.qca.txt", "qualisys")


# Calls


def calls(tree):
    """(dotted name, its keywords, line) of every call; in `a.b(c).d()` the name of the last is `?.d`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            parts, function = [], node.func
            while isinstance(function, ast.Attribute):
                parts.append(function.attr)
                function = function.value
            parts.append(function.id if isinstance(function, ast.Name) else "?")
            keywords = {keyword.arg: getattr(keyword.value, "value", keyword.value) for keyword in node.keywords}
            yield ".".join(reversed(parts)), keywords, node.lineno


FORBIDDEN = {
    "eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all",
    "marshal.loads", "shelve.open", "joblib.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter",
    "tempfile.mktemp", "np.fromregex",
}  # fmt: skip
MODULES = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "telnetlib", "ftplib", "xml.sax", "xml.dom.minidom"}
XML = ("importers/cameras/documents.py", "surface/bake/dog.py")
"""Who reads XML: the first refuses entities, the second reads a file of an installed package when the dog is made."""


PICKLES = "workers.py"
"""Who unpickles: the workers of a command, the bytes that the command itself made and handed to them."""


def problems(path):
    """What a source file does that it should not."""
    tree = ast.parse(path.read_text())
    for name, keywords, line in calls(tree):
        unpickles = name.startswith(("pickle.load", "pickle.Unpickler"))
        if name in FORBIDDEN or (unpickles and path != PACKAGE / PICKLES):
            yield f"{line}: {name}"
        if name == "torch.load" and keywords.get("weights_only") is not True:
            yield f"{line}: torch.load without weights_only=True"
        if name in ("np.load", "numpy.load", "np.lib.format.read_array") and keywords.get("allow_pickle") is not False:
            yield f"{line}: {name} without allow_pickle=False"
        if name.startswith("subprocess.") and keywords.get("shell", False) is not False:
            yield f"{line}: a shell"
        if name.endswith(".extractall"):
            yield f"{line}: {name}"
        if name.startswith("ElementTree.") and not path.as_posix().endswith(XML):
            yield f"{line}: {name}"
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (f"{node.lineno}: import {name}" for name in names if name in MODULES)


def test_no_source_file_unpickles_or_starts_a_shell():
    found = {str(path.relative_to(PACKAGE)): list(problems(path)) for path in sorted(PACKAGE.rglob("*.py"))}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_what_is_looked_for_is_found(tmp_path):
    source = """
import joblib, pickle, torch, numpy as np, subprocess, yaml
pickle.loads(b"")
torch.load("a")
torch.load("a", weights_only=False)
np.load("a")
np.load("a", allow_pickle=True)
subprocess.run("ls", shell=True)
yaml.load("a")
eval("1")
archive.extractall()
"""
    (tmp_path / "a.py").write_text(source)
    lines = [int(problem.split(":")[0]) for problem in problems(tmp_path / "a.py")]
    assert sorted(lines) == list(range(2, 12))
    (tmp_path / "a.py").write_text("import torch\ntorch.load('a', weights_only=True)\n")
    assert list(problems(tmp_path / "a.py")) == []


def test_no_key_is_in_the_package():
    """Forty hexadecimal characters would be a key of Weights & Biases."""
    files = [path for folder in (PACKAGE, CONFIGS) for path in folder.rglob("*") if path.suffix in (".py", ".yaml")]
    assert len(files) > 100
    for path in files:
        assert not re.search(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])", path.read_text()), path
