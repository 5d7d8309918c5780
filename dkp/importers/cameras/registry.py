"""Every camera format that is read: how to tell it, its unit, its reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dkp.captures.arrays import name as checked_name, one_of
from dkp.errors import InputError
from dkp.files import decoded
from dkp.geometry import Camera
from dkp.importers.cameras import colmap, dannce, human36m, kalibr, opencv, panoptic, qualisys, toml, transforms
from dkp.importers.cameras.parts import NamedCamera, metres

_LOOKED_AT = 5_000_000  # bytes of a file


@dataclass(frozen=True)
class CameraFormat:
    """A camera format.

    Attributes:
        looks: what its files look like, in words.
        unit: of its files; empty where they do not say.
        each: what two cameras at least have, for messages.
        found: tells a path and the beginning of its text (empty where it is a folder or binary).
        read: path and metres per unit (and subject) to names and cameras.
    """

    looks: str
    unit: str
    each: str
    found: Callable[[Path, str], bool]
    read: Callable[..., Iterator[NamedCamera]]


FORMATS = {
    "toml": CameraFormat(
        "Anipose, Pose2Sim, caliscope: TOML with [cam_N] or [cameras.N]", "", "tables with a 'matrix'",
        toml.is_toml, toml.read_toml,
    ),
    "opencv": CameraFormat(
        "OpenCV, EasyMocap: a folder with intri.yml and extri.yml", "m", "with a K_NAME each",
        opencv.is_opencv, opencv.read_opencv,
    ),
    "colmap": CameraFormat(
        "COLMAP: a folder with cameras and images, .txt or .bin", "", "images", colmap.is_colmap, colmap.read_colmap
    ),
    "transforms": CameraFormat(
        "nerfstudio, instant-ngp: transforms.json", "", "in its frames",
        transforms.is_transforms, transforms.read_transforms,
    ),
    "dannce": CameraFormat(
        "DANNCE, label3d: a folder with *_params.mat, or a *dannce.mat", "mm",
        "with K, RDistort, TDistort, r and t each", dannce.is_dannce, dannce.read_dannce,
    ),
    "kalibr": CameraFormat(
        "Kalibr: camchain.yaml", "m", "under cam0, cam1, ...", kalibr.is_kalibr, kalibr.read_kalibr
    ),
    "qualisys": CameraFormat(
        "Qualisys Track Manager: *.qca.txt", "mm", "<camera> elements", qualisys.is_qualisys, qualisys.read_qualisys
    ),
    "panoptic": CameraFormat(
        "Panoptic Studio: calibration_*.json", "cm", "in its list", panoptic.is_panoptic, panoptic.read_panoptic
    ),
    "human36m": CameraFormat(
        "Human3.6M: metadata.xml, or JSON: camera-parameters, Human36M_subject1_camera", "mm", "of the subject",
        human36m.is_human36m, human36m.read_human36m,
    ),
}  # fmt: skip


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
    if subject is not None and format != "human36m":
        raise InputError(f"subject is {subject!r} but a file of {format} has one rig, expected no subject")
    cameras: dict[str, Camera] = {}
    subjects = () if subject is None else (subject,)
    for name, camera in chosen.read(path, metres(str(unit or chosen.unit)), *subjects):
        if name in cameras:
            raise InputError(f"{path} names the camera {name!r} twice, expected different names")
        cameras[name] = camera
    if len(cameras) < 2:
        raise InputError(f"{path} has {len(cameras)} calibrated camera(s), expected at least two {chosen.each}")
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
