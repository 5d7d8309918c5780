"""Every camera format that is read: how to tell it, its unit, its reader."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dkp.captures.arrays import name as checked_name
from dkp.captures.arrays import one_of
from dkp.errors import InputError
from dkp.files import decoded
from dkp.geometry import Camera
from dkp.importers.cameras import colmap, dannce, human36m, kalibr, opencv, panoptic, qualisys, toml, transforms

_LOOKED_AT = 5_000_000  # bytes of a file


@dataclass(frozen=True)
class CameraFormat:
    """A camera format.

    Attributes:
        looks: what its files look like, in words.
        found: tells a path and the beginning of its text (empty where it is a folder or binary).
        read: path (and unit) to camera name -> camera.
    """

    looks: str
    found: Callable[[Path, str], bool]
    read: Callable[..., dict[str, Camera]]

    @property
    def unit(self) -> str:
        """The unit of its files; empty where they do not say."""
        default = inspect.signature(self.read).parameters["unit"].default
        return "" if default is inspect.Parameter.empty else str(default)


FORMATS = {
    "toml": CameraFormat(
        "Anipose, Pose2Sim, caliscope: TOML with [cam_N] or [cameras.N]", toml.is_toml, toml.read_toml_cameras
    ),
    "opencv": CameraFormat(
        "OpenCV, EasyMocap: a folder with intri.yml and extri.yml", opencv.is_opencv, opencv.read_opencv_cameras
    ),
    "colmap": CameraFormat(
        "COLMAP: a folder with cameras and images, .txt or .bin", colmap.is_colmap, colmap.read_colmap_cameras
    ),
    "transforms": CameraFormat(
        "nerfstudio, instant-ngp: transforms.json", transforms.is_transforms, transforms.read_transforms_cameras
    ),
    "dannce": CameraFormat(
        "DANNCE, label3d: a folder with *_params.mat, or a *dannce.mat", dannce.is_dannce, dannce.read_dannce_cameras
    ),
    "kalibr": CameraFormat("Kalibr: camchain.yaml", kalibr.is_kalibr, kalibr.read_kalibr_cameras),
    "qualisys": CameraFormat("Qualisys Track Manager: *.qca.txt", qualisys.is_qualisys, qualisys.read_qualisys_cameras),
    "panoptic": CameraFormat(
        "Panoptic Studio: calibration_*.json", panoptic.is_panoptic, panoptic.read_panoptic_cameras
    ),
    "human36m": CameraFormat(
        "Human3.6M: metadata.xml, or JSON: camera-parameters, Human36M_subject1_camera",
        human36m.is_human36m,
        human36m.read_human36m_cameras,
    ),
}


def read_cameras(
    path: str | Path,
    format: str = "auto",
    unit: str | None = None,
    subject: str | None = None,
    names: Sequence[str] | Mapping[str, str] | None = None,
) -> dict[str, Camera]:
    """Read a rig from a camera file of any known program.

    Args:
        path: a file or folder.
        format: one of `FORMATS`; "auto" finds it by what the file holds.
        unit: "m", "cm", "mm" or how many metres one is; None takes that of the format, where it has one.
        subject: whose rig, in a file that has one for each subject (Human3.6M).
        names: which of its cameras, in this order, or name in the file -> what it is called; None takes all.

    Returns:
        Name -> camera: float64, no batch dimension, metres. The image size is zero where the file does not say it.

    Raises:
        InputError: one sentence with file and key, what was found and what was expected.
    """
    path = Path(path)
    one_of(format, ("auto", *FORMATS), "format")
    if format == "auto":
        format = recognised(path)
    chosen = FORMATS[format]
    if unit is None and not chosen.unit:
        raise InputError(f"{path} does not say its unit, expected --unit m, cm, mm or how many metres one is")
    options = {} if unit is None else {"unit": str(unit)}
    if subject is not None:
        if "subject" not in inspect.signature(chosen.read).parameters:
            raise InputError(f"subject is {subject!r} but a file of {format} has one rig, expected no subject")
        options["subject"] = subject
    cameras = chosen.read(path, **options)
    if names is None:
        return cameras
    for name in names:
        one_of(name, cameras, "cameras")
    if len({*names}) < max(2, len(names)):
        raise InputError(f"cameras are {', '.join(names) or 'none'}, expected at least two different ones")
    called = names if isinstance(names, Mapping) else {name: name for name in names}
    if len({*called.values()}) < len(called):
        raise InputError(f"cameras are called {', '.join(called.values())}, expected a different name for each")
    return {checked_name(called[name], "cameras"): cameras[name] for name in called}


def recognised(path: Path) -> str:
    """Return the format of a file or folder, by what it holds.

    Raises:
        InputError: it is not there, or is none of the known ones.
    """
    head = b""
    try:
        if not path.is_dir():
            with path.open("rb") as file:
                head = file.read(_LOOKED_AT)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}), expected a camera file or folder") from error
    if head.startswith(b"\x80") or path.suffix.lower() in (".pickle", ".pkl"):
        raise InputError(
            f"{path} is a pickle, which can run code when it is read, expected another camera file: for DeepLabCut's "
            "stereo cameras, docs/own-rig.md has a script that writes one; Human3.6M has a metadata.xml"
        )
    try:
        text = decoded(head)
    except UnicodeDecodeError:
        text = head.decode("utf-8-sig", errors="replace")
    text = "" if "\0" in text[:1000] else text.lstrip()
    for name, one in FORMATS.items():
        if one.found(path, text):
            return name
    what = "no camera file that is known" if head or path.is_dir() else "empty"
    raise InputError(f"{path} is {what}, expected one of {', '.join(FORMATS)}: `dkp import --list` shows them")


def list_formats() -> str:
    """List the camera files that are read, what they look like and their unit."""
    lines = [f"{name:<11} {one.unit or '--unit':<7} {one.looks}" for name, one in FORMATS.items()]
    return "\n".join([f"{'format':<11} {'unit':<7} looks like", *lines])
