"""The git commit of source code that runs from a checkout."""

import os
import shutil
import subprocess
from pathlib import Path

_GIT_S = 10.0


def source_commit(file: Path) -> str | None:
    """Return the git commit of a file of the source code, or None if git does not track it.

    Changes that are not committed are noted by `-dirty`. Nothing is raised where git is missing.

    Args:
        file: a file of the source code.
    """
    try:
        # A package that is installed below somebody's checkout is not part of it.
        _git(file, "ls-files", "--error-unmatch", file.name)
        commit = _git(file, "rev-parse", "HEAD")
        changes = _git(file, "status", "--porcelain", "--untracked-files=no")
        return f"{commit}-dirty" if changes else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _git(file: Path, *arguments: str) -> str:
    command = [shutil.which("git") or "git", "-C", str(file.parent), *arguments]
    # A Git hook, whose variables name another repository, may have started this process.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env["GIT_OPTIONAL_LOCKS"] = "0"  # a daemon does not write to its source code
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=_GIT_S, check=True, env=env
    )
    return found.stdout.strip()
