"""Frames of recordings: videos and folders of images, and which of them belong together."""
