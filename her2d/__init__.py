"""her2d reads HER2 status from gastric-cancer H&E whole-slide images, unattended.

An implementation of HER2Net (Liao et al., Advanced Science 2025, 10.1002/advs.202408451).
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from her2d.api import Results, Scorer
    from her2d.bundle.loading import load_bundle
    from her2d.errors import Her2dError
    from her2d.pipeline.scoring import Her2Status
    from her2d.slides.reader import open_slide

__all__ = [
    "Her2Status",
    "Her2dError",
    "Results",
    "Scorer",
    "__version__",
    "load_bundle",
    "open_slide",
]

# Imported when they are first used: a command that scores nothing must not load an engine.
_DEFINED_IN = {
    "Her2Status": "her2d.pipeline.scoring",
    "Her2dError": "her2d.errors",
    "Results": "her2d.api",
    "Scorer": "her2d.api",
    "load_bundle": "her2d.bundle.loading",
    "open_slide": "her2d.slides.reader",
}

# ONNX Runtime reports the machine to its makers from its import on. her2d reports nothing to
# anybody, even if the environment asks for it. This is the one change it makes to the host process.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_DEFINED_IN[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
