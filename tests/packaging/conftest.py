"""What is installed, built once for all workers of a run."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import count
from pathlib import Path

import pytest
from built_once import built_once, run_folder
from commands_elsewhere import run_elsewhere
from debian_machine import Machine, booted, bootstrap

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("systemd-sysv", "dbus", "procps", "python3-venv", "make")
WITHOUT_FSYNC = ("--force-unsafe-io",)  # dpkg flushes each of 13,000 files otherwise
Boot = Callable[..., Machine]


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Path:
    """A copy of the repository, with `make wheels` done."""

    def build(folder: Path) -> None:
        listed = run_elsewhere("git", "ls-files", "-co", "--exclude-standard", cwd=REPOSITORY)
        files = [name for name in listed.splitlines() if os.path.lexists(REPOSITORY / name)]
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-P", REPOSITORY / name, folder / name], check=True)
        run_elsewhere("make", "wheels", f"PYTHON={sys.executable}", cwd=folder)

    return built_once(run_folder(tmp_path_factory) / "clone", build)


@pytest.fixture(scope="session")
def package(clone, tmp_path_factory) -> Path:
    """The Debian package. `clone`/dist/deb keeps what it was packed from."""

    def build(folder: Path) -> None:
        environment = ["env", "DEB_LEVEL=1", "SOURCE_DATE_EPOCH=1700000000"]
        run_elsewhere(*environment, "make", "deb", "WHEELS=dist/wheels", cwd=clone)

    built_once(run_folder(tmp_path_factory) / "package", build)
    (found,) = (clone / "dist").glob("*.deb")
    return found


@pytest.fixture(scope="session")
def debian(tmp_path_factory) -> Path:
    """A root folder with Debian, systemd and Python."""
    place = run_folder(tmp_path_factory) / "debian"
    return built_once(place, lambda folder: bootstrap(folder / "root", PACKAGES)) / "root"


@pytest.fixture(scope="session")
def installed(debian, clone, tmp_path_factory) -> list[Path]:
    """Debian in which root ran `make install`, as folders to boot from."""

    def build(folder: Path) -> None:
        with booted([debian], folder, clone) as machine:
            machine.run("make", "-C", clone, "install", "WHEELS=dist/wheels")

    return [built_once(run_folder(tmp_path_factory) / "debian-installed", build) / "upper", debian]


@pytest.fixture(scope="session")
def packaged(debian, package, tmp_path_factory) -> list[Path]:
    """Debian with the package, as folders to boot from. What it said is beside."""

    def build(folder: Path) -> None:
        with booted([debian], folder, package) as machine:
            said = machine.run("dpkg", *WITHOUT_FSYNC, "-i", package)
        (folder / "said").write_text(said)

    return [built_once(run_folder(tmp_path_factory) / "debian-packaged", build) / "upper", debian]


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> Path:
    """A folder with two small simulated scans."""

    def build(folder: Path) -> None:
        from her2d.simulator.motic import write_he_slide
        from her2d.simulator.plan import plan_slide

        for seed, name in enumerate(("scan.tif", "another.tif")):
            plan = plan_slide(name, 77 + seed, her2_status="positive", width=2048, height=1536)
            write_he_slide(plan, folder / name)

    return built_once(run_folder(tmp_path_factory) / "scans", build)


@pytest.fixture(scope="session")
def scan(scans) -> Path:
    return scans / "scan.tif"


@pytest.fixture(scope="session")
def another_scan(scans) -> Path:
    return scans / "another.tif"


@pytest.fixture
def boot(tmp_path) -> Iterator[Boot]:
    """Boot folders, each time as another machine, and shut them down after the test."""
    with ExitStack() as machines:
        numbers = count(1)

        def start(lower: list[Path], *shown: Path | str) -> Machine:
            folder = tmp_path / f"machine-{next(numbers)}"
            machine: AbstractContextManager[Machine] = booted(lower, folder, *shown)
            return machines.enter_context(machine)

        yield start
