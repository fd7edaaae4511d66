"""The wheel and the source archive, and her2d as somebody has it who never saw the repository."""

import re
import shlex
import shutil
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from built_once import built_once, run_folder
from commands_elsewhere import run_elsewhere

from her2d.settings import load_settings

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
IN_THE_PACKAGE = {
    "her2d/py.typed",
    "her2d/data/config.toml",
    "her2d/data/constraints.txt",
    "her2d/data/her2net-demo/manifest.toml",
    "her2d/data/her2net-demo/segmenter.onnx",
    "her2d/data/her2net-demo/classifiers.onnx",
    "her2d/data/her2net-demo/integrator.skops",
    "her2d/data/systemd/her2d.service",
    "her2d/data/systemd/monitoring/her2d.rules.yml",
    "her2d/data/systemd/monitoring/compose.yml",
    "her2d/data/systemd/monitoring/grafana/datasources/prometheus.yml",
    "her2d/data/systemd/monitoring/grafana/dashboards/her2d.yml",
}
ROW = re.compile(r" \d  gastric-")


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Path:
    """A folder with the wheel and the source archive, built from a copy of the repository."""

    def build(folder: Path) -> None:
        source = folder / "source"
        source.mkdir()
        for name in ("her2d", "engines", "systemd"):
            ignored = shutil.ignore_patterns("__pycache__", "*.plan*", "*.timing")
            shutil.copytree(REPOSITORY / name, source / name, symlinks=True, ignore=ignored)
        for name in ("pyproject.toml", "README.md", "LICENSE", "config.toml", "constraints.txt"):
            shutil.copy(REPOSITORY / name, source)
        run_elsewhere(
            sys.executable, "-m", "build", "--outdir", folder / "dist", source, cwd=folder
        )

    return built_once(run_folder(tmp_path_factory) / "archives", build) / "dist"


@pytest.fixture(scope="module")
def installed(archives, tmp_path_factory) -> Path:
    """The `bin` folder of an environment that has the wheel, and this one's other packages."""

    def install(folder: Path) -> None:
        run_elsewhere(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
        python = folder / "venv" / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
        (wheel,) = archives.glob("*.whl")
        run_elsewhere(*pip, "--python", python, "install", "--no-deps", wheel, cwd=folder)
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        packages = Path(run_elsewhere(python, "-c", ask, cwd=folder).strip())
        (packages / "others.pth").write_text(sysconfig.get_path("purelib"))

    return built_once(run_folder(tmp_path_factory) / "installed", install) / "venv" / "bin"


def test_wheel_and_source_archive_hold_the_bundle_the_settings_and_the_units(archives):
    (wheel,) = archives.glob("*.whl")
    (sdist,) = archives.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        files = [member for member in archive if member.isfile()]
    in_sdist = {member.name.partition("/")[2] for member in files}
    assert IN_THE_PACKAGE - in_wheel == set()
    assert IN_THE_PACKAGE - in_sdist == set()
    assert not [name for name in in_wheel if name.startswith(("tests", "tools", "engines"))]


def test_the_installed_command_finds_what_came_with_it(installed, tmp_path):
    where = run_elsewhere(
        installed / "python", "-c", "import her2d; print(her2d.__file__)", cwd=tmp_path
    )
    assert Path(where.strip()).is_relative_to(installed.parent)
    example = tmp_path / "config.toml"
    example.write_text(run_elsewhere(installed / "her2d", "config", "example", cwd=tmp_path))
    assert example.read_text() == (REPOSITORY / "config.toml").read_text()
    assert load_settings(example).results.database == tmp_path / "her2d.sqlite"
    shown = run_elsewhere(installed / "her2d", "config", "show", cwd=tmp_path)
    assert f"path = '{Path(where.strip()).parent}/data/her2net-demo'" in shown


def without_time(row: str) -> str:
    """Return the words of a row of results, which do not hold when it was made or no value."""
    return " ".join(re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d| - ", " ", row).split())


def test_the_installed_demo_gives_every_slide_its_simulated_result_in_any_folder(
    installed, tmp_path, monkeypatch
):
    """It ends with an error where one differs."""
    monkeypatch.setenv("COLUMNS", "160")
    printed = run_elsewhere(installed / "her2d", "demo", cwd=tmp_path)
    said = printed.splitlines()
    assert (tmp_path / "demo" / "her2d.sqlite").is_file()
    assert "6 results in" in printed
    results = [without_time(line) for line in said if ROW.match(line)]
    shown = [
        line for line in (REPOSITORY / "README.md").read_text().splitlines() if ROW.match(line)
    ]
    assert len(shown) == 2
    for line in shown:
        assert any(result.startswith(without_time(line)) for result in results), line
    # One negative and one positive call are certain.
    remarks = {line.split()[1]: line.split()[-1] for line in said if ROW.match(line)}
    assert [remarks["gastric-001.tif"], remarks["gastric-002.tif"]] == ["-", "-"]
    # Each slide is seen to be scanned, then scored, in that order, also without a terminal.
    for name in ("gastric-001.tif", "gastric-006-at-40x.tif"):
        told = [line.split()[0] for line in said if line.split()[1:2] in ([name], [f"{name}:"])]
        assert set(told) >= {"scanned", "scoring", "scored"}
        assert told.index("scoring") < told.index("scored")
    assert sum(line.startswith("scored ") and " tiles in " in line for line in said) == 6
    (heading,) = (line for line in said if line.endswith("in a web browser:"))
    words = shlex.split(said[said.index(heading) + 1])
    assert "browse" in words
    assert words[-2:] == ["--config", "demo/config.toml"]


def test_the_printed_command_installs_an_extra_where_her2d_is_installed(installed, tmp_path):
    """Into this environment, of the installed version, from the index only what is missing."""
    script = "from her2d.system.extras import installing; print(installing('parquet'))"
    command = run_elsewhere(installed / "python", "-c", script, cwd=tmp_path).strip()
    assert command.startswith(f"{installed}/python -m pip install 'her2d[parquet]' -c ")
    constraints = Path(command.split()[-1])
    assert constraints.read_text() == (REPOSITORY / "constraints.txt").read_text()
    said = run_elsewhere("sh", "-c", f"{command} --no-index 2>&1", cwd=tmp_path)
    assert "Requirement already satisfied: pyarrow" in said
    assert "does not provide" not in said
