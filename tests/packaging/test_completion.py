"""What the files for shells complete, in each shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A DESTDIR with what `make install` puts beside the program, which is this environment's."""
    destination = tmp_path_factory.mktemp("destination")
    programs = destination / "opt" / "her2d" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "her2d").write_text(f"#!{sys.executable}\nfrom her2d.cli import main\nmain()\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    make = ["make", "-s", "-o", "install-program", "install-files", f"DESTDIR={destination}"]
    subprocess.run(
        make, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=True
    )
    return destination


def completed(files: Path, *command: object) -> list[str]:
    path = f"{files}/opt/her2d/bin:{os.environ['PATH']}"
    done = subprocess.run(
        [str(part) for part in command],
        cwd=files,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": path, "HOME": str(files)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@needs("bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [("her2d qu", "queue"), ("her2d queue re", "retry"), ("her2d results --js", "--json")],
)
def test_bash_completes_commands_and_options(files, typed, offered):
    script = files / "usr/local/share/bash-completion/completions/her2d"
    words = typed.split()
    found = completed(
        files,
        "bash",
        "-euc",
        f". {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; "
        f'$(complete -p her2d | sed "s/.*-F \\([^ ]*\\).*/\\1/") her2d; echo "${{COMPREPLY[@]}}"',
    )
    assert offered in found


@needs("zsh")
def test_zsh_completes_at_the_first_tab(files):
    folder = files / "usr/local/share/zsh/site-functions"
    found = completed(
        files,
        "zsh",
        "-fc",
        f"fpath=({folder}); compdef() {{ : }}; _arguments() {{ print -l -- $@ }};"
        " autoload -Uz _her2d; words=(her2d qu); CURRENT=2; _her2d",
    )
    assert any("queue" in word for word in found)


@needs("fish")
def test_fish_completes_commands(files):
    script = files / "usr/local/share/fish/vendor_completions.d/her2d.fish"
    assert "queue" in completed(files, "fish", "-c", f"source {script}; complete -C 'her2d qu'")
