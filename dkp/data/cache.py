"""All views of a part of a capture, read once, in memory or in a cache on disk: images, cameras, labels, masks."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dkp.captures import Capture, View
from dkp.captures.images import OnBad, in_threads
from dkp.data.columns import Columns
from dkp.data.disk import Stored, cache_key, taken_or_made
from dkp.data.flow import NextFrame, add_next_views
from dkp.data.layout import add_view, begin_views
from dkp.data.reading import ViewReader, enough_foreground, or_problem
from dkp.data.stored import StoredImages
from dkp.errors import InputError
from dkp.progress import Progress
from dkp.surface import Surface

logger = logging.getLogger(__name__)

RELATIVE_GAP = 0.03
"""Coordinates further apart than this share of the surface's largest side (5 cm on a human) are not interpolated."""

CHUNK = 64
"""Views that are decoded at a time."""


class CaptureImages(StoredImages):
    """The views of one split of a capture, square, undistorted and of one size.

    Views larger than `side` are reduced (by area; labels at the pixel centres, see `sample_dense`) and the cameras
    follow; views that are not square are padded on the right or below. Workers that are forked share the memory. With
    `cache` the arrays are files that are mapped into memory, read-only, and shared by all processes of a machine.

    Args:
        capture: an open capture.
        split: name of a split; None = all instants.
        side: greatest side of the stored images [px]; twice the size of the network's input keeps an augmentation
            that is warped from here sharp. None = the largest view's.
        labels: read labels; False saves three quarters of the memory.
        require_labels: keep labelled views only.
        charts: also store part and chart coordinates of every labelled pixel.
        cameras: keep these cameras only.
        frames: keep these frames only (of the split).
        joints: names of joints to keep, in order; none are kept of a capture without any joint.
        next_frame: also keep where each pixel goes in the next frame of the same camera: "truth" by the known posed
            surface, "flow" by optical flow (OpenCV's DIS), "no" not at all.
        min_foreground: views whose labels (with `require_labels`) or masks show fewer pixels than this, counted at the
            stored size, are skipped.
        truth: also read the posed surface of every instant, where it is known.
        on_bad: "skip" leaves out views of which a file is missing, damaged or holds no numbers, with a warning that
            counts them (and takes such a posed surface for unknown); "raise" ends with an error.
        threads: threads that read files; None = one per core.
        cache: folder in which decoded views are kept, to be taken by the next one that asks for the same (see
            `cache_key`); None = in memory. What is kept may be larger than the memory.

    Raises:
        InputError: no view is left, a camera is unknown, what `next_frame` needs is missing, data are bad and `on_bad`
            is "raise", or the cache cannot be written.

    Attributes:
        origin: (3,) float64 [m], the point of the capture's world at which that of cameras and vertices begins; zero
            unless the capture is far away, see `near_origin`.
        skipped: number of views left out for want of foreground.
        bad: what was wrong with each view or posed surface that was left out.
    """

    def __init__(
        self,
        capture: Capture,
        split: str | None = None,
        side: int | None = None,
        *,
        labels: bool = True,
        require_labels: bool = False,
        charts: bool = False,
        cameras: Sequence[str] | None = None,
        frames: Sequence[str] | None = None,
        joints: Sequence[str] = (),
        next_frame: NextFrame = "no",
        min_foreground: int = 16,
        truth: bool = False,
        on_bad: OnBad = "skip",
        threads: int | None = None,
        cache: str | Path | None = None,
    ) -> None:
        self.name = f"{capture.path}" + (f" split {split!r}" if split else "")
        self.joint_names = tuple(joints) if any(view.joints for view in capture.views) else ()
        self.surface: Surface = capture.surface
        self.gap = RELATIVE_GAP * self.surface.extent
        self.on_bad = on_bad
        chosen = self._choose(capture, split, cameras, frames, require_labels)
        largest = max(max(view.size) for view in chosen)
        self.side = largest if side is None else min(side, largest)
        labels = labels or require_labels
        reader = ViewReader(capture, self.side, self.gap, labels, next_frame == "truth", charts)

        def write(columns: Columns) -> dict[str, Any]:
            least = (require_labels, min_foreground)
            notes = self._write_views(columns, reader, chosen, least, threads)
            if truth:
                notes |= self._write_truth(columns, reader, threads)
            if next_frame != "no":
                add_next_views(columns, reader, self, next_frame, CHUNK, threads)
            return notes

        if cache is None:
            columns = Columns()
            notes = write(columns)
            stored = Stored(columns.end(), notes)
        else:
            options = {
                "split": split, "side": self.side, "labels": labels, "require_labels": require_labels, "charts": charts,
                "cameras": cameras and list(cameras), "frames": frames and list(frames), "next_frame": next_frame,
                "min_foreground": min_foreground, "truth": truth, "on_bad": on_bad,
            }  # fmt: skip
            files = reader.files(chosen, truth or next_frame == "truth")
            stored = taken_or_made(Path(cache), lambda: cache_key(capture, options, files), write, self.name)
        self.origin = reader.origin
        self._folder = stored.folder
        self._adopt(stored.arrays)
        self._describe(chosen)
        self._tell(stored.notes)

    def _choose(
        self,
        capture: Capture,
        split: str | None,
        cameras: Sequence[str] | None,
        frames: Sequence[str] | None,
        require_labels: bool,
    ) -> list[View]:
        unknown = [name for name in cameras or () if name not in capture.cameras]
        if unknown:
            raise InputError(f"{self.name} has no camera {unknown[0]!r}, expected one of {', '.join(capture.cameras)}")
        wanted = None if frames is None else set(frames)
        instants = [one for one in capture.instants(split) if wanted is None or one.frame in wanted]
        views = [view for one in instants for view in one.views if cameras is None or view.camera in cameras]
        if not views:
            raise InputError(f"{self.name} has no views" + (" of the chosen cameras" if cameras else ""))
        if require_labels:
            labelled = [view for view in views if view.label or view.points]
            if not labelled:
                raise InputError(f"{self.name}: none of its {len(views)} views has a label")
            views = labelled
        return views

    def _write_views(
        self,
        columns: Columns,
        reader: ViewReader,
        chosen: list[View],
        least: tuple[bool, int],
        threads: int | None,
    ) -> dict[str, Any]:
        """Store the views that can be read and show enough, and note the others."""
        by_label, pixels = least
        begin_views(columns, self.side, reader.charts)
        bad: list[str] = []
        skipped = 0
        lines = Progress(Console(stderr=True, force_terminal=False))
        with lines, lines.shown(f"reading {self.name}", "view") as show:
            for start in range(0, len(chosen), CHUNK):
                some = in_threads(or_problem(reader.read, self.on_bad), chosen[start : start + CHUNK], threads)
                for index, one in enumerate(some, start):
                    if isinstance(one, InputError):
                        bad.append(str(one))
                    elif enough_foreground(one, by_label, pixels):
                        add_view(columns, index, one)
                    else:
                        skipped += 1
                show(min(start + CHUNK, len(chosen)), len(chosen))
        notes = {"views": len(chosen), "bad_views": bad, "skipped": skipped}
        if len(bad) == len(chosen):
            raise InputError(f"{self.name}: none of its {len(chosen)} views can be read; the first: {bad[0]}")
        if len(bad) + skipped == len(chosen):
            self._tell(notes)
            raise InputError(
                f"{self.name}: none of its {skipped} views has a {'label' if by_label else 'mask'} with {pixels} or "
                f"more pixels of foreground at {self.side}x{self.side}"
            )
        self._adopt(columns.end())
        self._describe(chosen)
        return notes

    def _write_truth(self, columns: Columns, reader: ViewReader, threads: int | None) -> dict[str, Any]:
        """Store the posed surfaces that are known, and note those that are bad."""
        columns.begin("vertices_row", (), np.int64)
        columns.begin("vertices", self.surface.vertices.shape, np.float32)
        bad: list[str] = []
        frames = [self.frame[int(views[0])] for views in self.instants]
        for start in range(0, len(frames), CHUNK):
            for one in in_threads(or_problem(reader.posed, self.on_bad), frames[start : start + CHUNK], threads):
                there = isinstance(one, np.ndarray)
                columns.append("vertices_row", columns.length("vertices") if there else -1)
                if isinstance(one, np.ndarray):
                    columns.append("vertices", one)
                elif one is not None:
                    bad.append(str(one))
        return {"surfaces": len(frames), "bad_surfaces": bad}

    def _tell(self, notes: Mapping[str, Any]) -> None:
        """Warn of what was left out, also by whoever wrote the cache."""
        self.bad: list[str] = [*notes["bad_views"], *notes.get("bad_surfaces", ())]
        self.skipped: int = notes["skipped"]
        for key, what in (("views", "views"), ("surfaces", "posed surfaces")):
            problems = notes.get(f"bad_{key}")
            if problems:
                logger.warning(
                    "%s: skipped %d of %d %s that cannot be used; the first: %s",
                    self.name, len(problems), notes[key], what, problems[0],
                )  # fmt: skip
        if self.skipped:
            read = notes["views"] - len(notes["bad_views"])
            logger.warning("%s: skipped %d of %d views without foreground", self.name, self.skipped, read)
