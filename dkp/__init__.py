"""dkp: dense keypoints from unlabelled multiview images.

The public names are imported when they are first used, so that `import dkp` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dkp.geometry import Camera
    from dkp.inference import Prediction, Predictor, SurfacePoints, SurfacePositions, load, reconstruct

__version__ = "0.1.0"

__all__ = [
    "Camera",
    "Prediction",
    "Predictor",
    "SurfacePoints",
    "SurfacePositions",
    "__version__",
    "load",
    "reconstruct",
]

HOME = {"Camera": "dkp.geometry"} | dict.fromkeys(
    ("Prediction", "Predictor", "SurfacePoints", "SurfacePositions", "load", "reconstruct"), "dkp.inference"
)
"""Where the public names are."""


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in HOME:
        raise AttributeError(f"module 'dkp' has no attribute {name!r}")
    return getattr(importlib.import_module(HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *HOME})
