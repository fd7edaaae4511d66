"""The peak rate of a device, measured by a large matrix product."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tools.benchmark.report import DeviceKind

_CPU_SIDE = 2048
_CUDA_SIDE = 8192
_CUDA_PRODUCTS = 10


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product that can be timed repeatedly.

    Attributes:
        device: where it runs.
        name: its size and type.
        flops_per_s: runs it once and returns its operations per second; None if it cannot run.
        reason: why it cannot run, or "".
    """

    device: DeviceKind
    name: str
    flops_per_s: Callable[[], float] | None
    reason: str = ""


def product_on(device: DeviceKind) -> Product:
    """Prepare the product: fp32 by NumPy on the CPU, fp16 by torch on CUDA."""
    return _on_cpu() if device == "cpu" else _on_cuda()


def _on_cpu() -> Product:
    side = _CPU_SIDE
    a, b = np.random.default_rng(0).random((2, side, side), dtype=np.float32)
    result = np.empty_like(a)

    def flops_per_s() -> float:
        started = time.perf_counter()
        np.matmul(a, b, out=result)
        return 2 * side**3 / (time.perf_counter() - started)

    flops_per_s()
    return Product("cpu", f"{side} x {side}, fp32", flops_per_s)


def _on_cuda() -> Product:
    side = _CUDA_SIDE
    name = f"{side} x {side}, fp16"
    try:
        import torch
    except ImportError:
        return Product("cuda", name, None, "torch, which runs it, is not installed.")
    if not torch.cuda.is_available():
        return Product("cuda", name, None, "torch finds no CUDA device.")
    a, b = torch.randn(2, side, side, device="cuda", dtype=torch.float16)
    result = torch.empty_like(a)

    def flops_per_s() -> float:
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(_CUDA_PRODUCTS):
            torch.matmul(a, b, out=result)
        torch.cuda.synchronize()
        return _CUDA_PRODUCTS * 2 * side**3 / (time.perf_counter() - started)

    flops_per_s()
    return Product("cuda", name, flops_per_s)
