"""Writing a capture: all or nothing, the same bytes for the same content, from one process or from many."""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from dkp.captures.arrays import affine_matrix, name as checked_name, text
from dkp.captures.capture import Capture
from dkp.captures.images import IMAGE_SUFFIXES, read_image, write_image, write_mask
from dkp.captures.labels import DenseLabel, SparseLabel, write_dense_label, write_npz, write_sparse_label
from dkp.captures.manifest import CAPTURE_FILE, FORMAT, VERSION, VIEWS_FILE, check_size, frames_per_second, read_row
from dkp.captures.rig import camera_size, metres_per_unit, override_entry
from dkp.errors import InputError
from dkp.files import cannot_write, hold
from dkp.geometry import Camera

if TYPE_CHECKING:
    from dkp.surface import Surface

logger = logging.getLogger(__name__)

_SURFACE_FILE = "surface.npz"


def check_destination(path: str | Path, overwrite: bool) -> None:
    """Refuse a folder to which no capture may be written.

    Args:
        path: of the capture.
        overwrite: whether a capture there is replaced.

    Raises:
        InputError: there is a file, another folder with something in it, or a capture that is not to be replaced.
    """
    path = Path(os.path.realpath(path))
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_dir():
        raise InputError(f"{path} is a file, expected a folder to write the capture to")
    if not any(path.iterdir()):
        return
    if not overwrite:
        raise InputError(f"{path} exists and is not empty, expected a new folder or the option --overwrite")
    if not (path / CAPTURE_FILE).is_file():
        raise InputError(f"{path} has no {CAPTURE_FILE}, expected a capture: nothing else is overwritten")


class CaptureWriter:
    """Writes a capture into a temporary folder beside its destination and moves it there at the end.

    Used in a ``with`` statement. When the block ends normally the capture is checked as :meth:`Capture.open` does and
    appears at ``path`` in one step; on any error the temporary folder is removed and what was at ``path`` stays as it
    was. Rows are sorted by sequence, time, frame and camera, so the order in which workers finish does not matter.

    Workers call :func:`write_view_files` and :func:`write_truth` with ``writer.folder``; the process that owns the
    writer passes the rows they return to :meth:`add_row`.

    Args:
        path: folder to write; it appears, whole, when the ``with`` block ends without an error.
        name: the capture's name.
        surface: name of a shipped surface such as "human", a :class:`Surface` or the path of an ``.npz``, ``.obj`` or
            ``.ply`` file; the latter two are written into the capture.
        cameras: rig camera name -> camera, metres.
        unit: unit of the lengths in the files; arguments stay in metres.
        splits: split name -> frame ids; may be set later as ``writer.splits``.
        source: where the data come from.
        licence: under which licence.
        fps: how many units of a view's `time` are a second; None where nothing says it.
        overwrite: whether an existing capture at ``path`` is replaced.

    Attributes:
        path: where the capture will be.
        folder: the temporary folder; exists inside the ``with`` block.
        surface: the surface, opened.
        splits: split name -> frame ids; may be changed until the block ends.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str,
        surface: str | Path | Surface,
        cameras: Mapping[str, Camera],
        unit: str = "m",
        splits: Mapping[str, Sequence[str]] | None = None,
        source: str = "",
        licence: str = "",
        fps: float | None = None,
        overwrite: bool = False,
    ):
        self.path = Path(os.path.realpath(path))
        self.folder = self.path.parent / f".{self.path.name}.partial-{secrets.token_hex(4)}"
        self.unit = unit
        self.splits: dict[str, list[str]] = {key: list(frames) for key, frames in (splits or {}).items()}
        self.overwrite = overwrite
        self._metres_per_unit = metres_per_unit(unit, "unit")
        self._cameras = {checked_name(key, "camera name"): camera for key, camera in cameras.items()}
        self.surface, self._surface_file = _loaded(surface)
        self._head = {
            "name": text(name, "name of the capture", empty=False),
            "source": text(source, "source"),
            "licence": text(licence, "licence"),
            **({} if fps is None else {"fps": frames_per_second(fps, "fps")}),
        }
        self._held: int | None = None
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        check_destination(self.path, self.overwrite)

    def __enter__(self) -> CaptureWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for left in self.path.parent.glob(f".{glob.escape(self.path.name)}.partial-*"):
                with contextlib.suppress(InputError):  # another process writes it
                    if (held := hold(left)) is not None:
                        shutil.rmtree(left, ignore_errors=True)
                        os.close(held)
            self.folder.mkdir()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._held = hold(self.folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            elif issubclass(kind, KeyboardInterrupt | SystemExit):
                logger.warning("%s was not finished: nothing of it is kept, the same command begins it anew", self.path)
            elif isinstance(error, OSError) and error.errno is not None and error.filename is None:
                raise cannot_write(self.path, error) from error
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            if self._held is not None:
                os.close(self._held)

    def add_view(self, frame: str, camera: str, image: np.ndarray | str | Path, **options: Any) -> None:
        """Write the files of one view and add its row; options as of :func:`write_view_files`, but for the unit."""
        self.add_row(write_view_files(self.folder, frame, camera, image, unit=self.unit, **options))

    def add_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add the rows of views whose files are written, and leave frames without a view out of the splits."""
        for row in rows:
            self.add_row(row)
        written = {frame for frame, _ in self._rows}
        self.splits = {name: [frame for frame in frames if frame in written] for name, frames in self.splits.items()}

    def add_row(self, row: dict[str, Any]) -> None:
        """Add a row that :func:`write_view_files` returned.

        Raises:
            InputError: unknown camera, an image of another size than the camera's without a crop, or a second row for
                the same frame and camera.
        """
        key = (row["frame"], row["camera"])
        where = f"view {key[0]} of camera {key[1]}"
        view = read_row(row, where)
        if view.camera not in self._cameras:
            raise InputError(f"{where} has an unknown camera, expected one of {', '.join(self._cameras)}")
        check_size(view, camera_size(self._cameras[view.camera]), where)
        if key in self._rows:
            raise InputError(f"{where} is added twice, expected once")
        self._rows[key] = row

    def add_truth(self, frame: str, vertices: np.ndarray) -> None:
        """Write the posed surface of a frame, ``vertices``: (V, 3) m in the world."""
        write_truth(self.folder, frame, vertices, unit=self.unit)

    def _finish(self) -> None:
        check_destination(self.path, self.overwrite)
        order = {key: index for index, key in enumerate(self._cameras)}
        rows = sorted(
            self._rows.values(), key=lambda row: (row["sequence"], row["time"], row["frame"], order[row["camera"]])
        )
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        (self.folder / VIEWS_FILE).write_text("".join(lines), encoding="utf-8")
        if self._surface_file == _SURFACE_FILE:
            self.surface.save(self.folder / _SURFACE_FILE)
        head = {
            "format": FORMAT,
            "version": VERSION,
            "name": self._head["name"],
            "unit": self.unit,
            "surface": self._surface_file,
            "cameras": [
                {"name": name, "size": list(camera_size(camera)), **override_entry(camera, self._metres_per_unit)}
                for name, camera in self._cameras.items()
            ],
            "splits": {key: list(frames) for key, frames in self.splits.items()},
            **{key: value for key, value in self._head.items() if key != "name"},
        }
        content = json.dumps(head, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        (self.folder / CAPTURE_FILE).write_text(content, encoding="utf-8")
        try:
            Capture.open(self.folder)
        except InputError as error:
            raise InputError(str(error).replace(str(self.folder), str(self.path))) from None
        self._move()

    def _move(self) -> None:
        if not self.path.exists():
            self.folder.rename(self.path)
            return
        old = self.folder.with_name(self.folder.name + "-old")
        self.path.rename(old)
        try:
            self.folder.rename(self.path)
        except BaseException:
            old.rename(self.path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _loaded(surface: str | Path | Surface) -> tuple[Surface, str]:
    """Return the surface, and what the capture says of it: the name of a shipped one, or the file in the capture."""
    from dkp.surface import Surface

    if not isinstance(surface, str | Path):
        return surface, _SURFACE_FILE
    return Surface.load(surface), _SURFACE_FILE if Path(surface).suffix else str(surface)


def write_view_files(
    folder: str | Path,
    frame: str,
    camera: str,
    image: np.ndarray | str | Path,
    *,
    sequence: str = "all",
    time: int,
    mask: np.ndarray | None = None,
    label: DenseLabel | None = None,
    points: SparseLabel | None = None,
    crop: np.ndarray | Sequence[Sequence[float]] | None = None,
    undistorted: bool = False,
    override: Camera | None = None,
    joints: Mapping[str, Sequence[float]] | None = None,
    domain: str | None = None,
    unit: str = "m",
) -> dict[str, Any]:
    """Write the files of one view; needs no writer, so worker processes can call it.

    Args:
        folder: the writer's ``folder``.
        frame: id of the instant, shared by the views of one instant.
        camera: name of the rig camera.
        image: (H, W, 3) uint8 RGB, or the path of an image file, which is copied as it is.
        sequence: id of the recording.
        time: index of the instant in the recording.
        mask: (H, W) bool, the foreground.
        label: dense surface label of the image's size.
        points: labelled points.
        crop: (2, 3) affine map from rig camera pixels (undistorted ones where ``undistorted``) to image pixels; pixel
            centres at integer + 0.5.
        undistorted: whether lens distortion has been removed from the image.
        override: the camera that took this one view, where it is not the rig's; metres, before any crop.
        joints: name -> (x, y, confidence) [px of the image], stored with four decimals.
        domain: free label of the kind of image.
        unit: the capture's unit.

    Returns:
        The view's row, for :meth:`CaptureWriter.add_row`.
    """
    folder = Path(folder)
    where = f"view {frame} of camera {camera}"
    stem = f"{checked_name(camera, f'{where}: camera')}/{checked_name(frame, f'{where}: frame')}"
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"{where}: image has shape {image.shape} and type {image.dtype}, expected (H, W, 3) uint8")
        image_file = f"images/{stem}.png"
        write_image(_target(folder, image_file), image)
        height, width = image.shape[:2]
    else:
        source = Path(image)
        if source.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"{source} ends in {source.suffix!r}, expected an image ({', '.join(IMAGE_SUFFIXES)})")
        height, width = read_image(source).shape[:2]
        image_file = f"images/{stem}{source.suffix.lower()}"
        shutil.copyfile(source, _target(folder, image_file))
    mask_file = label_file = points_file = None
    if mask is not None:
        if mask.shape != (height, width):
            raise InputError(f"{where}: mask has shape {mask.shape}, expected {(height, width)} as the image")
        mask_file = f"masks/{stem}.png"
        write_mask(_target(folder, mask_file), mask)
    if label is not None:
        problem = label.problem(2**31, (width, height))
        if problem:
            raise InputError(f"{where}: label {problem}")
        label_file = f"labels/{stem}.npz"
        write_dense_label(_target(folder, label_file), label)
    if points is not None:
        problem = points.problem(2**31, (width, height))
        if problem:
            raise InputError(f"{where}: points {problem}")
        points_file = f"points/{stem}.npz"
        write_sparse_label(_target(folder, points_file), points)
    if override is not None and camera_size(override)[0] <= 0:
        raise InputError(f"{where}: override has no image size, expected a camera with one")
    return {
        "frame": frame,
        "sequence": sequence,
        "time": int(time),
        "camera": camera,
        "image": image_file,
        "size": [width, height],
        "mask": mask_file,
        "label": label_file,
        "points": points_file,
        "crop": None if crop is None else affine_matrix(crop, f"{where}: crop").tolist(),
        "undistorted": bool(undistorted),
        "override": None if override is None else override_entry(override, metres_per_unit(unit, "unit")),
        "joints": None
        if joints is None
        else {key: [round(float(v), 4) for v in value] for key, value in joints.items()},
        "domain": domain,
    }


def write_truth(folder: str | Path, frame: str, vertices: np.ndarray, unit: str = "m") -> None:
    """Write ``truth/<frame>.npz`` into a writer's folder; worker processes can call it.

    Args:
        folder: the writer's ``folder``.
        frame: id of the instant.
        vertices: (V, 3) m, the posed surface in the world.
        unit: the capture's unit.
    """
    checked_name(frame, "frame")
    vertices = np.asarray(vertices, np.float64)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not np.isfinite(vertices).all():
        raise InputError(f"truth of frame {frame} has shape {vertices.shape}, expected (V, 3) finite numbers")
    far = np.abs(vertices).max(initial=0.0) > 1000  # float32 resolves 0.1 mm at one kilometre
    stored = (vertices / metres_per_unit(unit, "unit")).astype(np.float64 if far else np.float32)
    write_npz(_target(Path(folder), f"truth/{frame}.npz"), {"vertices": stored})


def _target(folder: Path, file: str) -> Path:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
