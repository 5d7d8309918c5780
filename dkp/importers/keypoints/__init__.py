"""Keypoints that other programs found or people labelled: one file a format, found by what a file holds."""
