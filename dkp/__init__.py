"""dkp: dense keypoints from unlabelled multiview images.

The public names are imported when they are first used, so that `import dkp` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dkp.inference import Prediction, Predictor, SurfacePoints, load

__version__ = "0.1.0"

__all__ = ["Prediction", "Predictor", "SurfacePoints", "__version__", "load"]

HOME = {"Prediction": "dkp.inference", "Predictor": "dkp.inference", "SurfacePoints": "dkp.inference",
        "load": "dkp.inference"}  # fmt: skip
"""Where the public names are."""


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in HOME:
        raise AttributeError(f"module 'dkp' has no attribute {name!r}")
    return getattr(importlib.import_module(HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *HOME})
