"""Captures: the on-disk format, its reader and its writer."""

from dkp.captures.capture import Capture as Capture
from dkp.captures.labels import DenseLabel as DenseLabel, SparseLabel as SparseLabel
from dkp.captures.manifest import Instant as Instant, View as View
from dkp.captures.writer import (
    CaptureWriter as CaptureWriter,
    write_truth as write_truth,
    write_view_files as write_view_files,
)
