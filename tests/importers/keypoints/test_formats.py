"""The same keypoints in every format are read alike; damaged files are one sentence each."""

import csv
import json
import pickle

import h5py
import numpy as np
import pytest
import scipy.io

from dkp.captures.joints import LAYOUTS
from dkp.errors import InputError
from dkp.importers.keypoints.dannce import MATLAB_TO_OPENCV
from dkp.importers.keypoints.files import is_detections, read_detections
from dkp.importers.keypoints.names import joint_names, named_joints, plain_name

NAMES = ["Nose", "LeftEar", "tailbase"]
OURS = ["nose", "left_ear", "tail_base"]
FRAMES = (3, 5, 9)
POINTS = np.random.default_rng(0).uniform(20, 200, (3, 2, 3, 3)).round(3)  # frames, people, keypoints, x y confidence
POINTS[..., 2] = [0.5, 0.75, 1.0]
POINTS[1, 0, 1] = np.nan  # not found


def triples(person):
    return np.nan_to_num(person).ravel().tolist()


def write_openpose(path):
    path.mkdir()
    for frame, people in zip(FRAMES, POINTS, strict=True):
        content = {"people": [{"pose_keypoints_2d": triples(one)} for one in people]}
        (path / f"a_{frame}.json").write_text(json.dumps(content))


def instances(people):
    return [
        {"keypoints": np.nan_to_num(one[:, :2]).tolist(), "keypoint_scores": np.nan_to_num(one[:, 2]).tolist()}
        for one in people
    ]


def write_mmpose_images(path):
    path.mkdir()
    for frame, people in zip(FRAMES, POINTS, strict=True):
        (path / f"{frame:06d}.json").write_text(json.dumps(instances(people)))


def mmpose():
    return {
        "meta_info": {"keypoint_id2name": {str(i): name for i, name in enumerate(NAMES)}},
        "instance_info": [{"frame_id": f, "instances": instances(p)} for f, p in zip(FRAMES, POINTS, strict=True)],
    }


def coco():
    return {
        "images": [{"id": 70 + f, "file_name": f"cam1/img_{f:05d}.jpg"} for f in FRAMES],
        "annotations": [
            {"image_id": 70 + frame, "category_id": 1, "keypoints": triples(one), "score": 0.9}
            for frame, people in zip(FRAMES, POINTS, strict=True)
            for one in people
        ],
        "categories": [{"id": 1, "name": "mouse", "keypoints": NAMES}, {"id": 2, "name": "ball"}],
    }


def coco_results():
    return [
        {"image_id": f"{frame}.jpg", "category_id": 1, "keypoints": triples(one), "score": 0.9}
        for frame, people in zip(FRAMES, POINTS, strict=True)
        for one in people
    ]


def columns():
    return [(one, name, coord) for one in ("a", "b") for name in NAMES for coord in ("x", "y", "likelihood")]


TABLE = POINTS.reshape(3, -1)


def deeplabcut_rows(index=FRAMES):
    heads = [
        ["scorer", *["DLC"] * 18],
        *([k, *v] for k, v in zip(("individuals", "bodyparts", "coords"), zip(*columns(), strict=True), strict=True)),
    ]
    return heads + [
        [label, *["" if np.isnan(v) else repr(float(v)) for v in row]] for label, row in zip(index, TABLE, strict=True)
    ]


def image(frame):
    return f"labeled-data/v1/i{frame:03}.png"


def spread_index(row):
    """Return a row whose frame is in three cells, as newer labels of DeepLabCut have it."""
    return ["labeled-data", "v1", image(row[0]), *row[1:]] if isinstance(row[0], int) else [row[0], "", "", *row[1:]]


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_levels(group, axis, labels):
    group.attrs[f"{axis}_nlevels"] = len(labels[0])
    for level, values in enumerate(zip(*labels, strict=True)):
        words = sorted(set(values))
        group[f"{axis}_level{level}"] = np.array(words, "S")
        group[f"{axis}_label{level}"] = np.array([words.index(value) for value in values], np.int8)


def write_fixed_table(path, index):
    """As pandas writes a table with format="fixed"."""
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"] = np.bytes_("frame")
        write_levels(group, "block0_items", [("DLC", *column) for column in columns()])
        if isinstance(index[0], tuple):
            write_levels(group, "axis1", index)
        else:
            group["axis1"] = np.array(index, "S" if isinstance(index[0], str) else None)
        group["block0_values"] = TABLE


def write_appendable_table(path, protocol):
    """As pandas writes a table with format="table": the names of its columns are pickled."""
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"] = np.bytes_("frame_table")
        rows = np.zeros(3, [("index", "<i8"), ("values_block_0", "<f8", (18,))])
        rows["index"], rows["values_block_0"] = FRAMES, TABLE
        group["table"] = rows
        names = pickle.dumps([("DLC", *column) for column in columns()], protocol)
        group["table"].attrs["values_block_0_kind"] = np.void(names) if protocol else np.bytes_(names)


def write_sleap(path, matlab=True):
    tracks = np.full((10, 2, 3, 3), np.nan)
    tracks[list(FRAMES)] = POINTS
    with h5py.File(path, "w") as file:
        file["node_names"] = np.array(NAMES, "S")
        file["tracks"] = tracks[..., :2].transpose(1, 3, 2, 0) if matlab else tracks[..., :2]
        file["point_scores"] = tracks[..., 2].transpose(1, 2, 0) if matlab else tracks[..., 2]


WRITERS = {
    "openpose": ("pose", write_openpose, None),
    "mmpose images": ("pose", write_mmpose_images, None),
    "mmpose": ("a.json", lambda path: path.write_text(json.dumps(mmpose())), NAMES),
    "coco": ("a.json", lambda path: path.write_text(json.dumps(coco())), NAMES),
    "coco results": ("a.json", lambda path: path.write_text(json.dumps(coco_results())), None),
    "csv": ("a.csv", lambda path: write_csv(path, deeplabcut_rows()), NAMES),
    "csv images": ("a.csv", lambda path: write_csv(path, deeplabcut_rows([*map(image, FRAMES)])), NAMES),
    "csv labels": ("a.csv", lambda path: write_csv(path, [*map(spread_index, deeplabcut_rows())]), NAMES),
    "fixed": ("a.h5", lambda path: write_fixed_table(path, FRAMES), NAMES),
    "fixed images": ("a.h5", lambda path: write_fixed_table(path, [*map(image, FRAMES)]), NAMES),
    "fixed labels": ("a.h5", lambda path: write_fixed_table(path, [("data", "v1", image(f)) for f in FRAMES]), NAMES),
    "table 0": ("a.h5", lambda path: write_appendable_table(path, 0), NAMES),
    "table 5": ("a.h5", lambda path: write_appendable_table(path, 5), NAMES),
    "sleap": ("a.h5", write_sleap, NAMES),
    "sleap python": ("a.analysis.h5", lambda path: write_sleap(path, False), NAMES),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_keypoints_in_every_format(tmp_path, kind):
    name, write, names = WRITERS[kind]
    write(tmp_path / name)
    found = read_detections(tmp_path / name)
    assert found.names == (None if names is None else tuple(names))
    frames = {number: people for number, people in found.frames.items() if people}
    assert list(frames) == list(FRAMES)
    for people, expected in zip(frames.values(), POINTS, strict=True):
        np.testing.assert_allclose(people, expected)
    if names is not None:
        assert joint_names([found]) == OURS
        assert list(named_joints(frames[5][0], OURS)) == ["nose", "tail_base"]


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_dannce_labels(tmp_path, version):
    points = POINTS[:, 0, :, :2]
    arrays = {"data_2d": points.reshape(3, 6) - MATLAB_TO_OPENCV, "data_frame": np.array([FRAMES], np.uint16)}
    path = tmp_path / "cam1_labels.mat"
    if version == "5":
        scipy.io.savemat(path, arrays)
    else:
        with h5py.File(path, "w", userblock_size=512) as file:
            for key, value in arrays.items():
                file[key] = value.T
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file")
    found = read_detections(path)
    assert list(found.frames) == list(FRAMES)
    np.testing.assert_allclose([people[0][:, :2] for people in found.frames.values()], points)
    (tmp_path / "names.yaml").write_text("0: nose\n2: tail_base\n")
    assert joint_names([found], tmp_path / "names.yaml") == ["nose", "_", "tail_base"]


def test_names_are_spelled_in_one_way():
    for spelled in ("RShoulder", "R_Shoulder", "rightShoulder", "right shoulder", "r-shoulder", "shoulder R"):
        assert plain_name(spelled) == "right_shoulder"
    assert [plain_name(n) for n in ("Hip", "LHip", "Thorax", "Snout", "LFoot", "R_F_Paw")] == [
        "mid_hip", "left_hip", "neck", "nose", "left_ankle", "right_f_paw",
    ]  # fmt: skip
    for layout in ("coco_17", "body_25"):
        assert [plain_name(name) for name in LAYOUTS[layout] if name != "_"] == [n for n in LAYOUTS[layout] if n != "_"]


def test_a_map_of_names(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(coco()))
    found = [read_detections(tmp_path / "a.json")]
    path = tmp_path / "names.yaml"
    path.write_text("Nose: snout\ntailbase: null\n")
    assert joint_names(found, path) == ["snout", "_", "_"]
    for content, match in [
        ("Nos: nose", "'Nos' is no keypoint.*Nose"),
        ("Nose: 3", "Nose is 3, expected the name"),
        ("- a", "expected lines"),
        ("Nose: a\ntailbase: a", "'a' for two keypoints"),
        ("a: [", "cannot be read"),
        ("!!python/name:os.system x: 1", "cannot be read"),
    ]:
        path.write_text(content)
        with pytest.raises(InputError, match=match):
            joint_names(found, path)


def test_one_of_two_tables_is_read(tmp_path):
    write_sleap(tmp_path / "a.h5")
    write_csv(tmp_path / "a.csv", deeplabcut_rows())
    assert [path.name for path in sorted(tmp_path.iterdir()) if is_detections(path)] == ["a.h5"]
    assert read_detections(tmp_path).path.name == "a.h5"


def change(content, *keys, value):
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return content


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def write_evil(path):
    write_appendable_table(path, 0)
    with h5py.File(path, "r+") as file:
        file["df_with_missing/table"].attrs["values_block_0_kind"] = np.void(pickle.dumps(Evil()))


def without(name):
    def write(path):
        write_sleap(path)
        with h5py.File(path, "r+") as file:
            del file[name]

    return write


def renamed(name, other):
    def write(path):
        write_sleap(path)
        with h5py.File(path, "r+") as file:
            file.move(name, other)

    return write


def replaced(name, value):
    def write(path):
        write_sleap(path)
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = value

    return write


def huge(path):
    write_sleap(path)
    with h5py.File(path, "r+") as file:
        del file["tracks"]
        file.create_dataset("tracks", (10**5, 2, 3, 10**5), "f8", chunks=(1, 2, 3, 1000), compression="gzip")


def cut(write, share=0.5):
    def damaged(path):
        write(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return damaged


def as_json(content):
    return lambda path: path.write_text(json.dumps(content))


def as_rows(rows):
    return lambda path: write_csv(path, rows)


@pytest.mark.parametrize(
    ("name", "write", "match"),
    [
        ("a.json", cut(as_json(coco())), "is not valid JSON"),
        ("a.json", as_json({"people": []}), "of OpenPose, name the folder"),
        ("a.json", as_json(change(coco(), "annotations", 0, "image_id", value=1)), r"annotations\[0\]: image_id is 1"),
        (
            "a.json",
            as_json(change(coco(), "annotations", 0, "keypoints", value=[1.0] * 8)),
            "has 8 numbers, expected x, y",
        ),
        (
            "a.json",
            as_json(change(coco(), "annotations", 0, "keypoints", value=[1.0] * 6)),
            "person of 2 keypoints, expected 3",
        ),
        ("a.json", as_json(change(coco(), "images", value=3)), "images is 3, expected a list"),
        ("a.json", as_json(change(coco(), "images", 0, "file_name", value=None)), "has no number in its name"),
        ("a.json", as_json(change(coco(), "images", 0, "file_name", value="9.png")), "second entry for frame 9"),
        (
            "a.json",
            as_json(change(coco(), "categories", 0, "keypoints", value=[1, 2, 3])),
            "expected one list of names",
        ),
        ("a.json", as_json(change(mmpose(), "instance_info", 0, "frame_id", value="x")), "frame_id is 'x'"),
        (
            "a.json",
            as_json(change(mmpose(), "instance_info", 0, "instances", 0, "keypoints", value=[[1], [2], [3]])),
            "expected pairs",
        ),
        (
            "a.json",
            as_json(change(mmpose(), "instance_info", 0, "instances", 0, "keypoint_scores", value=[])),
            "as many keypoints",
        ),
        ("a.csv", as_rows([["frame", "x"], [1, 2]]), r"begins with \[\], expected rows scorer"),
        ("a.csv", as_rows([*deeplabcut_rows()[:4], [3, 1.0]]), "row 5 has 2 cells, expected 19"),
        ("a.csv", as_rows(change(deeplabcut_rows(), 4, 2, value="nose")), "could not convert string to float: 'nose'"),
        ("a.csv", lambda path: path.write_bytes(b"\x00\xff\xfe" * 40), "cannot be read"),
        ("a.csv", as_rows(change(deeplabcut_rows(), 5, 0, value="x.png")), "no number in its name"),
        ("a.h5", cut(write_sleap, 0.9), "cannot be read|is no format"),
        ("a.h5", without("node_names"), "has no data set 'node_names'"),
        ("a.h5", replaced("tracks", np.zeros((2, 2, 4, 10))), "tracks has shape"),
        ("a.h5", replaced("tracks", np.array([b"a"])), "expected numbers"),
        ("a.h5", replaced("point_scores", np.zeros((1, 3, 10))), "point_scores has shape"),
        ("a.h5", replaced("node_names", 3), "node_names has type int64"),
        ("a.h5", huge, "expected at most"),
        ("a.h5", lambda path: h5py.File(path, "w").close(), "has 0 tables of pandas"),
        ("a.h5", write_evil, "has values of shape"),
        ("a.mat", lambda path: path.write_bytes(b"MATLAB 5.0"), "cannot be read"),
        ("a.mat", lambda path: scipy.io.savemat(path, {"data_2d": np.zeros((2, 6))}), "no array 'data_frame'"),
        (
            "a.mat",
            lambda path: scipy.io.savemat(path, {"data_2d": {"a": 1}, "data_frame": 1}),
            "data_2d is no array of numbers",
        ),
        (
            "a.mat",
            lambda path: scipy.io.savemat(path, {"data_2d": np.zeros((2, 5)), "data_frame": [1, 2]}),
            "expected 2 rows of x and y",
        ),
        ("a.h5", renamed("node_names", "node\nnames"), "has no data set 'node_names' but node names, "),
        ("a.slp", lambda path: path.write_bytes(b""), "project of SLEAP, expected its analysis file"),
        ("a.txt", lambda path: path.write_text("1 2 3"), "no format of detections"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, name, write, match):
    path = tmp_path / name
    write(path)
    with pytest.raises(InputError, match=match) as caught:
        read_detections(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "expected" in str(caught.value)
