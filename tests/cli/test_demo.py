"""`her2d demo`, which `make demo` runs: a daemon, a scanner, six slides."""

import os
import shlex
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from her2d.cli import demo as demo_module
from her2d.cli.app import main

REPOSITORY = Path(__file__).parents[2]


def demo(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "her2d", "demo", "--directory", folder / "demo"],
        cwd=REPOSITORY,
        env=os.environ | {"COLUMNS": "160"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_where_the_port_of_browse_is_in_use_the_demo_suggests_a_free_one(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(demo_module, "_BROWSE_PORT", taken.getsockname()[1])
        assert " browse --port 0 --config " in next(demo_module._hints(Path("c.toml"), []))
    assert " browse --config " in next(demo_module._hints(Path("c.toml"), []))


def test_another_her2d_on_the_path_is_not_suggested(monkeypatch, tmp_path):
    other, ours = tmp_path / "bin" / "her2d", tmp_path / "venv" / "her2d"
    for program in (other, ours):
        program.parent.mkdir()
        program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    monkeypatch.setattr("sys.argv", [str(ours)])
    assert demo_module._command() == str(ours)
    monkeypatch.setenv("PATH", str(ours.parent))
    assert demo_module._command() == "her2d"


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").touch()
    ended = demo(tmp_path / "file")
    assert (ended.returncode, ended.stderr) == (
        1,
        f"her2d: Cannot create the demo in {tmp_path}/file/demo: Not a directory. Choose another"
        " --directory.\n",
    )


@pytest.mark.parametrize("started", [["-m", "her2d"], [Path(sys.executable).parent / "her2d"]])
def test_the_commands_that_it_suggests_work_where_her2d_is_not_on_the_path(tmp_path, started):
    script = f"""
import runpy, sys
from pathlib import Path
from her2d.cli import demo, main
sys.argv[0] = {("her2d/__main__.py" if started[0] == "-m" else str(started[0]))!r}
print(next(demo._hints(Path("a b/config.toml"), [])))
"""
    environment = os.environ | {"PATH": "/usr/bin:/bin"}
    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    command = shlex.split(found.stdout)
    assert command[-2:] == ["--config", "a b/config.toml"]
    tried = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert tried.stderr == "her2d: There is no settings file a b/config.toml.\n"


@pytest.mark.slow
def test_wrong_results_are_named_and_fail_the_demo(tmp_path, color_bundle, monkeypatch, capsys):
    """The bundle that one can compute by hand finds no tumour in haematoxylin and eosin."""
    _, positive, _, benign, *_ = demo_module._cases(5)
    cases = [positive, replace(benign, result="no-tumor")]
    monkeypatch.setattr(demo_module, "_cases", lambda seed: cases)
    monkeypatch.setenv("HER2D_BUNDLE__PATH", str(color_bundle.directory))
    monkeypatch.setattr("sys.argv", ["her2d", "demo", "--directory", str(tmp_path / "demo")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "gastric-002 was simulated to be positive, but its result is" in said
    assert "gastric-004-benign was" not in said
