"""dkp: dense keypoints from unlabelled multiview images."""

__version__ = "0.1.0"
