"""Run the command line in a separate laboratory, with a bundle whose results are easy to know."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from her2d.cli import main
from her2d.cli.app import app


@dataclass(frozen=True)
class Laboratory:
    """A folder with config.toml, in which `run` runs a command."""

    folder: Path

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def database(self) -> Path:
        return self.folder / "her2d.sqlite"

    def run(self, *arguments: object, command: typer.Typer = app) -> Result:
        return CliRunner().invoke(
            command, [*map(str, arguments), "--config", str(self.folder / "config.toml")]
        )

    def json(self, *arguments: object):
        found = self.run(*arguments, "--json")
        return json.loads(found.stdout)


@pytest.fixture
def laboratory(tmp_path, color_bundle) -> Laboratory:
    folder = tmp_path / "lab"
    (folder / "inbox").mkdir(parents=True)
    (folder / "config.toml").write_text(
        f'[bundle]\npath = "{color_bundle.directory}"\n'
        "[intake]\nsettle_s = 0.3\nsweep_s = 0.5\n"
        "[inference]\nthreads = 1\n[ops]\nport = 0\n"
    )
    return Laboratory(folder)


@pytest.fixture
def her2d(laboratory, monkeypatch, capfd):
    """Run the real entry point; returns (exit code, stdout, stderr)."""

    def her2d(*arguments: object, command: typer.Typer = app) -> tuple[int, str, str]:
        argv = [
            "her2d",
            *map(str, arguments),
            "--config",
            str(laboratory.folder / "config.toml"),
        ]
        monkeypatch.setattr("sys.argv", argv)
        code = 0
        try:
            main(command)
        except SystemExit as exit_:
            code = exit_.code or 0
        out, err = capfd.readouterr()
        return code, out, err

    return her2d
