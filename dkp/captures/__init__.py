"""Captures: the on-disk format, its reader and writer, importers and checks."""

from dkp.captures.capture import Capture
from dkp.captures.check import check, check_capture
from dkp.captures.check_report import CheckReport
from dkp.captures.import_board import import_board
from dkp.captures.import_person import import_person
from dkp.captures.import_toml import import_toml
from dkp.captures.labels import DenseLabel, SparseLabel
from dkp.captures.manifest import Instant, View
from dkp.captures.subject_point import subject_point
from dkp.captures.writer import CaptureWriter, write_truth, write_view_files

__all__ = [
    "Capture",
    "CaptureWriter",
    "CheckReport",
    "DenseLabel",
    "Instant",
    "SparseLabel",
    "View",
    "check",
    "check_capture",
    "import_board",
    "import_person",
    "import_toml",
    "subject_point",
    "write_truth",
    "write_view_files",
]
