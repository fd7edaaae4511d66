"""The image of container/Containerfile, built and run by Podman, and its compose files."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from debian_machine import PATIENCE_S, needs_container

from her2d.settings import load_settings

REPOSITORY = Path(__file__).parents[2]
CONTAINER = REPOSITORY / "container"


def program_is_missing(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed")


def test_the_image_has_the_documented_settings_but_for_paths_and_the_address(tmp_path):
    edited = subprocess.run(
        ["sed", "-f", "systemd/config.sed", "-f", "container/config.sed", "config.toml"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    config = tmp_path / "config.toml"
    config.write_text(edited)
    settings = load_settings(config)
    assert settings.ops.host == "0.0.0.0"
    assert settings.bundle.path == Path("/opt/her2d/engines/her2net-demo")
    compose = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
    mounted = [
        volume.removesuffix(":ro").rpartition(":")[2]
        for volume in compose["services"]["her2d"]["volumes"]
    ]
    for path in (
        *settings.intake.inboxes,
        settings.results.database.parent,
        settings.results.heatmaps,
    ):
        assert str(path) in mounted
        assert f'"{path}"' in (CONTAINER / "Containerfile").read_text(), "a volume"


@program_is_missing("docker-compose")
@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.cuda.yaml"]])
def test_compose_accepts_the_files_and_takes_all_rights(files):
    named = [argument for name in files for argument in ("-f", CONTAINER / name)]
    found = subprocess.run(
        ["docker-compose", *named, "config"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    service = yaml.safe_load(found.stdout)["services"]["her2d"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["user"] == "10001:10001"
    assert "127.0.0.1" in str(service["ports"])


def test_every_file_that_the_image_is_built_from_is_in_its_context():
    """What `COPY . .` brings is what .dockerignore lets through."""
    allowed = [
        line[1:]
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line[:1] == "!"
    ]
    assert "her2d" in allowed
    linked = {
        os.path.normpath(Path("her2d/data") / path.readlink())
        for path in (REPOSITORY / "her2d/data").iterdir()
        if path.is_symlink()
    }
    assert linked <= set(allowed)
    assert {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"} <= set(allowed)


class Podman:
    """Podman with images and containers in a folder of its own."""

    def __init__(self, folder: Path, run: str) -> None:
        self.options = ["podman", "--root", folder, "--runroot", run]
        self.options += ["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]
        self.options += ["--events-backend", "file", "--runtime", "runc"]

    def __call__(self, *arguments: object, stdin: int | None = None) -> str:
        done = self._run(arguments, stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def succeeds(self, *arguments: object) -> bool:
        return self._run(arguments, None).returncode == 0

    def logs(self, container: str) -> str:
        done = self._run(("logs", container), None)
        return done.stdout + done.stderr

    def _run(
        self, arguments: Sequence[object], stdin: int | None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(part) for part in (*self.options, *arguments)],
            stdin=stdin,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def image(clone, debian, tmp_path) -> Iterator[Podman]:
    """Podman, with the image her2d. No registry is asked: its base is `debian`."""
    run = tempfile.mkdtemp(prefix="her2d-")  # its path must be short
    podman = Podman(tmp_path / "images", run)
    try:
        with subprocess.Popen(["tar", "-C", debian, "-c", "."], stdout=subprocess.PIPE) as packed:
            assert packed.stdout is not None
            podman("import", "-", "localhost/debian", stdin=packed.stdout.fileno())
        podman(
            *("build", "--format", "docker", "--layers=false", "--isolation", "chroot"),
            *("--network", "host", "--ulimit", "nofile=1024:1024", "-t", "her2d"),
            *("--build-arg", "BASE=localhost/debian", "--build-arg", "WHEELS=dist/wheels"),
            *("-f", clone / "container/Containerfile", clone),
        )
        yield podman
    finally:
        podman("rm", "--all", "--force")
        if (storage := tmp_path / "images" / "overlay").is_mount():
            subprocess.run(["umount", storage], check=True)
        shutil.rmtree(run)


@pytest.mark.slow
@needs_container
@program_is_missing("podman", "runc")
def test_the_image_scores_a_slide_with_a_read_only_root_and_no_rights(image, scan, tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir(mode=0o755)
    shutil.copyfile(scan, inbox / "a.tif")
    name = f"her2d-{os.getpid()}"
    image(
        *("run", "--detach", "--name", name, "--network", "none", "--read-only", "--tmpfs", "/tmp"),
        *("--cap-drop", "all", "--security-opt", "no-new-privileges", "--user", "10001:10001"),
        *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=2000:2000"),
        *("--volume", f"{inbox}:/srv/her2d/inbox:ro", "--volume", f"{name}:/var/lib/her2d"),
        *("--env", "HER2D_INTAKE__SETTLE_S=1", "her2d"),
    )
    ((_, *probe),) = [
        json.loads(image("inspect", "--format", "{{json .Config.Healthcheck.Test}}", name))
    ]
    deadline = time.monotonic() + PATIENCE_S
    while "slide_finished" not in (logged := image.logs(name)):
        assert time.monotonic() < deadline, logged
        time.sleep(1)
    image("exec", name, *probe)
    assert len(json.loads(image("exec", name, "her2d", "results", "--json"))) == 1
    image("exec", name, "her2d", "doctor")
    image("stop", "--time", 60, name)
    assert image("inspect", "--format", "{{.State.ExitCode}}", name) == "0\n"
