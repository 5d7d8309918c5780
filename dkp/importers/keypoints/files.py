"""Detections of a camera in whatever format they are, told by what the file or folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py

from dkp.errors import InputError
from dkp.importers.hdf5 import open_hdf5
from dkp.importers.keypoints.coco import read_json_file
from dkp.importers.keypoints.dannce import read_dannce_labels
from dkp.importers.keypoints.deeplabcut import read_csv, read_hdf5
from dkp.importers.keypoints.detections import Detections
from dkp.importers.keypoints.openpose import frame_file, read_frame_files
from dkp.importers.keypoints.sleap import read_sleap
from dkp.importers.media.names import Paths, match_names

_SUFFIXES = (".h5", ".hdf5", ".mat", ".slp", ".csv", ".json")  # of one camera's files, the first of these is read


def is_detections(path: Path) -> bool:
    """Whether a folder's entry may be the detections of a camera; of one table in two formats, one."""
    suffix = path.suffix.lower()
    if path.is_dir() or suffix not in _SUFFIXES:
        return path.is_dir()
    return not any(path.with_suffix(other).is_file() for other in _SUFFIXES[: _SUFFIXES.index(suffix)])


def detections_of(given: Paths, cameras: Sequence[str]) -> dict[str, Path]:
    """Find each camera's detections, see `match_names`.

    Raises:
        InputError: a camera has none or more than one, or the folder is that of a single camera.
    """
    if isinstance(given, str | Path) and (frame := frame_file(Path(given))) is not None:
        raise InputError(
            f"{given} has detections of single frames, such as {frame.name}, expected a folder with one such folder "
            f"for each camera ({', '.join(cameras[:8])}{', ...' if len(cameras) > 8 else ''})"
        )
    return match_names(given, cameras, "a folder or file of detections", is_detections)


def read_detections(path: str | Path) -> Detections:
    """Read the detections of a camera.

    Args:
        path: a folder of OpenPose's or MMPose's JSON files, one a frame; a JSON file of COCO or MMPose; a CSV or HDF5
            file of DeepLabCut or lightning-pose; an analysis file of SLEAP; labels of DANNCE (label3d); or a folder
            with one such file.

    Raises:
        InputError: the format is not known, or the file does not hold what it should.
    """
    path = Path(path)
    if path.is_dir():
        files = [entry for entry in sorted(path.iterdir()) if entry.is_file() and is_detections(entry)]
        single = len(files) == 1 and files[0].suffix.lower() != ".json"
        return read_detections(files[0]) if single else read_frame_files(path)
    if not path.is_file():
        raise InputError(f"{path} is not there, expected detections")
    suffix = path.suffix.lower()
    if suffix == ".slp":
        raise InputError(f"{path} is a project of SLEAP, expected its analysis file (in SLEAP: Export Analysis HDF5)")
    if suffix == ".mat":
        return read_dannce_labels(path)
    if h5py.is_hdf5(path):
        with open_hdf5(path) as file:
            sleap = "tracks" in file
        return read_sleap(path) if sleap else read_hdf5(path)
    if suffix == ".csv":
        return read_csv(path)
    if suffix == ".json":
        return read_json_file(path)
    raise InputError(f"{path} is no format of detections that is read, expected {', '.join(_SUFFIXES)} or a folder")
