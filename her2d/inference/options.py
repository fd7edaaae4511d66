"""What may be asked of an engine."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

BackendName: TypeAlias = Literal["tensorrt", "tensorrt_rtx", "torch", "onnxruntime"]
Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8"]

BACKENDS: tuple[BackendName, ...] = ("tensorrt", "tensorrt_rtx", "torch", "onnxruntime")
"""Best first: the order in which `auto` tries them."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine is to run.

    Attributes:
        precision: what it computes in; None is the back end's own choice: fp32 for onnxruntime and
            torch, the best plan that was compiled for tensorrt and tensorrt_rtx.
        threads: of onnxruntime and of torch on the CPU; 0 is one for each core.
        segmenter_batch, classifier_batch: most tiles given at once.
        kept_tiles: most tumour tiles that may await classification.
        cuda_graphs: whether torch captures full batches on CUDA; off where what is measured is the
            time without.
    """

    precision: Precision | None = None
    threads: int = 0
    segmenter_batch: int = 4
    classifier_batch: int = 4
    kept_tiles: int = 32
    cuda_graphs: bool = True


def recorded_name(backend: BackendName, precision: Precision) -> str:
    """What a result's `backend` says: the precision too, unless it is fp32."""
    return backend if precision == "fp32" else f"{backend}-{precision}"
