"""Captures: the on-disk format, its reader and its writer."""

from dkp.captures.capture import Capture
from dkp.captures.labels import DenseLabel, SparseLabel
from dkp.captures.manifest import Instant, View
from dkp.captures.writer import CaptureWriter, write_truth, write_view_files

__all__ = [
    "Capture",
    "CaptureWriter",
    "DenseLabel",
    "Instant",
    "SparseLabel",
    "View",
    "write_truth",
    "write_view_files",
]
