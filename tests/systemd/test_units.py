"""The files that `make install` installs, checked with systemd's own tools."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from her2d.cli.app import app
from her2d.settings import load_settings

PROJECT = Path(__file__).parents[2]
UNITS = PROJECT / "systemd"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed (Debian package systemd)",
)


SERVICES = ("her2d.service", "her2d-care.service")


@pytest.fixture
def units(tmp_path) -> Path:
    """The units with an executable that exists, because `systemd-analyze verify` checks it."""
    for source in [*UNITS.glob("*.service"), *UNITS.glob("*.timer")]:
        text = source.read_text().replace("/opt/her2d/bin/her2d", shutil.which("true") or "")
        (tmp_path / source.name).write_text(text)
    return tmp_path


def parse(arguments: list[str]) -> None:
    """Parse a command line of her2d's as Typer would. Raises typer's UsageError."""
    command, context = get_command(app), None
    while (context := command.make_context(None, arguments, parent=context)).args or getattr(
        context, "_protected_args", []
    ):
        rest = [*getattr(context, "_protected_args", []), *context.args]
        _, command, arguments = command.resolve_command(context, rest)


def exposure(unit: Path) -> float:
    """Return the exposure level that systemd computes, from 0 (safe) to 10."""
    found = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    match = re.search(r"Overall exposure level.*?: ([\d.]+)", found.stdout)
    assert match, found.stdout + found.stderr
    return float(match[1])


@needs_systemd
@pytest.mark.parametrize("name", [*SERVICES, "her2d-care.timer"])
def test_systemd_accepts_the_unit_without_a_warning(units, name):
    found = subprocess.run(
        ["systemd-analyze", "verify", str(units / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_the_exposure_level_of_a_service_without_a_gpu_is_at_most_1_5(units, name):
    assert exposure(units / name) <= 1.5


@needs_systemd
@pytest.mark.parametrize(("name", "most"), [("gpu.conf", 2.5), ("openvino.conf", 1.6)])
def test_the_exposure_level_with_a_drop_in_for_a_back_end_is_little_higher(units, name, most):
    unit = units / "her2d.service"
    without = exposure(unit)
    drop_in = units / "her2d.service.d" / name
    drop_in.parent.mkdir()
    shutil.copy(UNITS / name, drop_in)
    assert without < exposure(unit) <= most


def test_only_the_paths_of_the_installed_config_differ_from_the_documented_one(tmp_path):
    installed = tmp_path / "config.toml"
    edited = subprocess.run(
        ["sed", "-f", str(UNITS / "config.sed"), str(PROJECT / "config.toml")],
        capture_output=True,
        text=True,
        check=True,
    )
    installed.write_text(edited.stdout)
    settings = load_settings(installed)
    assert settings.intake.inboxes == (Path("/srv/her2d/inbox"),)
    assert settings.results.database == Path("/var/lib/her2d/her2d.sqlite")
    assert settings.results.heatmaps == Path("/var/lib/her2d/heatmaps")
    assert settings.results.backups == Path("/var/lib/her2d/backups")
    assert settings.bundle.path == Path("/var/lib/her2d/engines/her2net-demo")
    documented = (PROJECT / "config.toml").read_text().splitlines()
    changed = [
        line
        for line, other in zip(documented, edited.stdout.splitlines(), strict=True)
        if line != other
    ]
    assert len(changed) == 5


def make_install(destination: Path) -> None:
    python = destination / "opt" / "her2d" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")  # instead of pip, which would download packages
    python.chmod(0o755)
    command = ["make", "install", f"DESTDIR={destination}"]
    subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)


def test_make_install_installs_all_files_below_destdir(tmp_path):
    make_install(tmp_path)
    for path in (
        "etc/systemd/system/her2d.service",
        "etc/systemd/system/her2d-care.service",
        "etc/systemd/system/her2d-care.timer",
        "usr/lib/sysusers.d/her2d.conf",
        "usr/lib/tmpfiles.d/her2d.conf",
        "var/lib/her2d/engines/her2net-demo/manifest.toml",
    ):
        assert (tmp_path / path).is_file()
    assert (tmp_path / "usr/local/bin/her2d").readlink() == Path("/opt/her2d/bin/her2d")
    config = tmp_path / "etc" / "her2d" / "config.toml"
    assert config.stat().st_mode & 0o777 == 0o640
    assert load_settings(config).results.database == Path("/var/lib/her2d/her2d.sqlite")


def test_make_install_keeps_an_existing_config(tmp_path):
    config = tmp_path / "etc" / "her2d" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("# mine\n")
    make_install(tmp_path)
    assert config.read_text() == "# mine\n"


@pytest.mark.parametrize("name", ["gpu", "openvino", "webhook", "cluster"])
def test_make_uninstall_removes_each_drop_in_that_make_installs(tmp_path, name):
    for target in (f"install-{name}", "uninstall"):
        command = ["make", target, f"DESTDIR={tmp_path}"]
        subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
        installed = [path.name for path in tmp_path.rglob("*.conf")]
        assert installed == ([f"{name}.conf"] if target != "uninstall" else [])


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ("active inactive inactive", 2),
        ("inactive active inactive", 2),
        ("inactive inactive activating", 2),  # a running oneshot service is never active
        ("deactivating inactive inactive", 2),
        ("inactive inactive inactive", 0),
        ("failed inactive failed", 0),
        ("", 0),
    ],
)
def test_make_install_refuses_while_a_service_runs(tmp_path, states, code):
    systemctl = tmp_path / "systemctl"
    lines = "".join(f"echo {state}\n" for state in states.split())
    systemctl.write_text(f"#!/bin/sh\n{lines}exit 3\n")
    systemctl.chmod(0o755)
    found = subprocess.run(
        ["make", "stopped"],
        cwd=PROJECT,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == code
    assert ("systemctl stop her2d" in found.stderr) == (code != 0)


def test_make_install_checks_for_running_services_before_it_installs_anything():
    printed = subprocess.run(
        ["make", "-n", "install"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert printed.index("is-active") < printed.index("pip install")


def test_root_writes_nothing_below_a_folder_that_the_service_owns():
    """The service's user could have put a link there, and root would follow it."""
    printed = subprocess.run(
        ["make", "-n", "install"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    below = [line for line in printed.splitlines() if "/var/lib/her2d/" in line]
    assert below, "the bundle is installed there"
    assert all("runuser -u her2d --" in line for line in below)
    assert "chown" not in printed


def test_the_units_read_secrets_from_a_separate_file():
    for name in SERVICES:
        assert "EnvironmentFile=-/etc/her2d/secrets.env" in (UNITS / name).read_text()


def test_a_reload_runs_the_command_that_fails_if_the_settings_are_refused():
    lines = (UNITS / "her2d.service").read_text().splitlines()
    (reload,) = [line for line in lines if line.startswith("ExecReload=")]
    program, *arguments = shlex.split(reload.removeprefix("ExecReload="))
    assert program == "/opt/her2d/bin/her2d"
    parse([argument.replace("$MAINPID", "7") for argument in arguments])
    (start,) = [line for line in lines if line.startswith("ExecStart=")]
    assert arguments[-2:] == shlex.split(start)[-2:]  # with the daemon's own settings


def test_a_dry_run_of_make_install_prints_all_steps_and_changes_nothing(tmp_path):
    printed = subprocess.run(
        ["make", "-n", "install", f"DESTDIR={tmp_path}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in (
        "her2d.service",
        "her2d-care.timer",
        "her2d.sysusers",
        "her2d.tmpfiles",
        "config.toml",
        "pip install",
    ):
        assert line in printed
    assert list(tmp_path.iterdir()) == []


def test_the_guides_line_gives_a_command_the_daemons_secrets(tmp_path):
    secrets = tmp_path / "secrets.env"
    url = "https://lis.example/her2d?a=1&b=2"
    secrets.write_text(f"# Ours.\nHER2D_WEBHOOK__URL='{url}'\n")
    guide = (PROJECT / "docs" / "how-to" / "systemd.md").read_text()
    (line,) = re.findall(r"sudo (sh -c '.*')", guide)
    command = line.replace("/etc/her2d/secrets.env", str(secrets)).replace(
        "runuser -u her2d -- her2d doctor", "env"
    )
    found = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert f"HER2D_WEBHOOK__URL={url}" in found.stdout.splitlines()
