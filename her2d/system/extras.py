"""The optional packages (extras) of this installation: what is missing, and how to install it."""

import os
import shlex
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

_CONSTRAINTS = Path(__file__).parents[1] / "data" / "constraints.txt"

MODULES = {
    "train": (
        "torch",
        "monai",
        "einops",
        "onnx",
        "psutil",
        "lightning",
        "zarr",
        "skimage",
        "xgboost",
        "matplotlib",
        "weasyprint",
        "safetensors",
        "onnxscript",
    ),
    "parquet": ("pyarrow",),
    "formats": ("openslide", "openslide_bin", "wsidicom", "pydicom"),
    "torch": ("torch", "onnx"),
    "openvino": ("openvino", "onnx"),
    "tensorrt": ("tensorrt", "pycuda", "onnx"),
    "tensorrt-rtx": ("tensorrt_rtx", "pycuda", "onnx"),
    "onnxruntime": ("onnx",),
    "cluster": ("ray",),
}
"""The modules that each extra in pyproject.toml installs for the program."""


def is_installed(module: str) -> bool:
    """Whether a top-level module can be found. It is not imported, which may take seconds."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # blocked, or a module without a spec
        return False


def missing_modules(extra: str) -> tuple[str, ...]:
    """Return the modules of an extra that are not installed."""
    return tuple(module for module in MODULES[extra] if not is_installed(module))


def installing(extra: str | None) -> str:
    """Return the shell command that installs an extra where this program is installed.

    It names this program's Python, because another `pip` installs for another. The versions are
    those that her2d is tested with.

    Args:
        extra: None for what her2d always needs.
    """
    python = shlex.quote(sys.executable)
    # The service runs as another user than the one that owns /opt/her2d.
    sudo = "" if os.access(sysconfig.get_path("purelib"), os.W_OK) else "sudo "
    wanted = "her2d" if extra is None else f"her2d[{extra}]"
    command = f"{sudo}{python} -m pip install {shlex.quote(wanted)}"
    if _CONSTRAINTS.is_file():
        command += f" -c {shlex.quote(str(_CONSTRAINTS))}"
    return command if is_installed("pip") else f"{sudo}{python} -m ensurepip && {command}"
