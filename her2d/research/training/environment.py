"""What a network was trained on: sums of floating-point numbers depend on it."""

import shutil
import subprocess
from pathlib import Path

import torch

import her2d
from her2d.bundle.manifest import Environment

_GIT_S = 10.0


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


def source_commit(file: Path) -> str | None:
    """Return the git commit of a file of the source code, or None if git does not track it.

    Changes that are not committed are noted by `-dirty`.

    Args:
        file: A file of the source code.
    """
    try:
        # A package that is installed below somebody's checkout is not part of it.
        _git(file, "ls-files", "--error-unmatch", file.name)
        return _git(file, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(file: Path, *arguments: str) -> str:
    command = [shutil.which("git") or "git", "-C", str(file.parent), *arguments]
    found = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_S, check=True)
    return found.stdout.strip()


def _cpu() -> str:
    return f"cpu, {torch.backends.cpu.get_cpu_capability()}"
