"""From samples to a batch of tensors and cameras."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dkp.geometry import Camera

IMAGES = ("image", "next_image")
CAMERA = ("intrinsics", "rotation", "translation")


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put samples of `LabelledViews` or `MultiviewInstants` together.

    Images become float32 in [0, 1] with channels first, the three parts of a camera one `Camera` without distortion
    (float32), other arrays tensors; texts stay lists.

    Returns:
        The batch, with a leading axis B.
    """
    batch: dict[str, Any] = {}
    for key, first in samples[0].items():
        values = [sample[key] for sample in samples]
        if key in CAMERA:
            continue
        if key in IMAGES:
            pixels = torch.from_numpy(np.stack(values))
            batch[key] = pixels.movedim(-1, -3).contiguous().float().div_(255.0)
        elif isinstance(first, np.ndarray):
            batch[key] = torch.from_numpy(np.stack(values))
        else:
            batch[key] = values
    parts = {key: torch.from_numpy(np.stack([sample[key] for sample in samples]).astype(np.float32)) for key in CAMERA}
    height, width = batch["image"].shape[-2:]
    batch["camera"] = Camera.create(**parts, image_size=torch.tensor([width, height], dtype=torch.float32))
    return batch
