"""Options of an engine: back end, precision, threads and batches."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

BackendName: TypeAlias = Literal["tensorrt", "tensorrt_rtx", "torch", "openvino", "onnxruntime"]
Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8"]

BACKENDS: tuple[BackendName, ...] = (
    "tensorrt",
    "tensorrt_rtx",
    "torch",
    "openvino",
    "onnxruntime",
)
"""All back ends in the order in which `auto` tries them, best first."""

ON_CPU: tuple[BackendName, ...] = ("openvino", "onnxruntime")
"""Those that compute on the CPU."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine runs.

    Attributes:
        precision: None is fp32 for onnxruntime and torch, and for the others the precision of the
            fastest compiled plan that can be used.
        threads: number of threads on the CPU; 0 is one for each core.
        segmenter_batch, classifier_batch: largest number of tiles at once.
        kept_tiles: largest number of tumour tiles that wait for classification.
        separate_folds: whether sub-classifiers are to run one by one, where a back end can do so
            and computes exactly the same.
        cuda_graphs: whether torch captures full batches on CUDA; the benchmark turns it off to
            measure the difference.
    """

    precision: Precision | None = None
    threads: int = 0
    segmenter_batch: int = 4
    classifier_batch: int = 4
    kept_tiles: int = 32
    separate_folds: bool = False
    cuda_graphs: bool = True


# A CPU computes one tile faster than its share of a batch, which its caches do not hold.
_CPU_BATCH, _GPU_BATCH = 1, 8


def usual_batch(backend: str) -> int:
    """Return how many tiles a back end computes at once where the settings leave it open.

    Args:
        backend: one of `BACKENDS`.
    """
    return _CPU_BATCH if backend in ON_CPU else _GPU_BATCH


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """How many tiles each network gets at once."""

    segmenter: int
    classifiers: int


def recorded_name(backend: BackendName, precision: Precision) -> str:
    """Name of back end and precision in a result's `backend`; fp32 is left out."""
    return backend if precision == "fp32" else f"{backend}-{precision}"


def recorded_parts(name: str) -> tuple[str, str]:
    """Return back end and precision of a name that `recorded_name` made."""
    backend, _, precision = name.partition("-")
    return backend, precision or "fp32"
