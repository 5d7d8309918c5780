"""Checking a capture: files, cameras, labels and joints, and how well they agree."""

from dkp.captures.check.measure import check_capture as check_capture
from dkp.captures.check.report import CheckReport as CheckReport
