"""Run commands that must not import this checkout."""

import os
import subprocess
from pathlib import Path


def run_elsewhere(*command: object, cwd: Path) -> str:
    """Run a command in `cwd` without PYTHONPATH; it must succeed. Return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
