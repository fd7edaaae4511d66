"""What a network was trained on: sums of floating-point numbers depend on it."""

from pathlib import Path

import torch

import her2d
from her2d.bundle.manifest import Environment
from her2d.system.source_commit import source_commit


def training_environment(device: torch.device) -> Environment:
    """Describe the machine and the software that train on `device` in this process."""
    on_gpu = device.type == "cuda"
    return Environment(
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if on_gpu else _cpu(),
        torch=torch.__version__,
        cuda=torch.version.cuda if on_gpu else None,
        commit=source_commit(Path(her2d.__file__)),
    )


def _cpu() -> str:
    return f"cpu, {torch.backends.cpu.get_cpu_capability()}"
