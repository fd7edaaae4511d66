"""The software that scores a slide, so that a result can be traced and computed again."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import her2d
from her2d.inference.options import recorded_parts
from her2d.system.source_commit import source_commit

# What reads a scan and computes with its pixels. The extra `formats` is among them: with it some
# TIFFs are read by another library than without it.
_LIBRARIES = (
    "imagecodecs",
    "numpy",
    "opencv-python-headless",
    "openslide-bin",
    "openslide-python",
    "pydicom",
    "scipy",
    "simplejpeg",
    "tifffile",
    "wsidicom",
    "zxing-cpp",
)


@dataclass(frozen=True, slots=True)
class Software:
    """What scores a slide; its fields are columns of `runs` and of the view `slide_results`.

    Attributes:
        backend: name of back end and precision, such as `tensorrt-fp16`; fp32 is left out.
        precision: what the engine computes in: fp32, fp16, bf16 or int8.
        runtime: the library that runs the networks: onnxruntime, openvino, torch, tensorrt or
            tensorrt_rtx.
        runtime_version: of that library.
        scikit_learn_version: of the installed library. It runs every integrator but a random
            forest, whose probabilities do not depend on it.
        software_version: of her2d.
        git_commit: of her2d where it runs from a checkout, with `-dirty` if files differ from it;
            None where it was installed from a package.
    """

    backend: str
    precision: str
    runtime: str
    runtime_version: str
    scikit_learn_version: str
    software_version: str
    git_commit: str | None


def software_of(backend: str) -> Software:
    """Describe the software of an open engine; it takes some milliseconds, for Git's sake.

    Args:
        backend: the engine's name as recorded with each result.
    """
    runtime, precision = recorded_parts(backend)
    return Software(
        backend=backend,
        precision=precision,
        runtime=runtime,
        runtime_version=str(import_module(runtime).__version__),
        scikit_learn_version=version("scikit-learn"),
        software_version=her2d.__version__,
        git_commit=source_commit(Path(her2d.__file__)),
    )


def library_versions() -> Mapping[str, str | None]:
    """Return the version of each library that a result depends on; None if it is not installed.

    The library that runs the networks and scikit-learn are in `Software`.
    """
    return {name: _version(name) for name in _LIBRARIES}


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
