"""The Debian package, installed with dpkg where systemd runs."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from debian_machine import needs_container

needs_dpkg = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed (Debian package dpkg)"
)
pytestmark = [pytest.mark.slow, needs_dpkg, needs_container]

WITHOUT_FSYNC = ("--force-unsafe-io",)
CONFIG = "/etc/her2d/config.toml"
RESULT = "/var/lib/her2d/her2d.sqlite"


def next_version(staged: Path, folder: Path) -> Path:
    """Pack what was staged for the package once more, with another default in its config.toml."""
    tree = folder / "tree"
    subprocess.run(["cp", "-al", staged, tree], check=True)
    for name, old, new in (
        ("DEBIAN/control", "\nVersion: ", "\nVersion: 9+"),
        (CONFIG[1:], "[intake]\n", "# A new key is explained here.\n[intake]\n"),
    ):
        text = (tree / name).read_text().replace(old, new)
        mode = (tree / name).stat().st_mode
        (tree / name).unlink()  # its other link is the staged file
        (tree / name).write_text(text)
        (tree / name).chmod(mode)
    packed = folder / "next.deb"
    pack = ["dpkg-deb", "-Zzstd", "-z1", "--root-owner-group", "-b", tree, packed]
    subprocess.run(pack, check=True, capture_output=True)
    shutil.rmtree(tree)
    return packed


def test_the_wheels_of_all_dependencies_are_collected(clone):
    collected = {
        path.name.partition("-")[0].lower() for path in (clone / "dist/wheels").glob("*.whl")
    }
    assert {"her2d", "numpy", "onnxruntime", "scikit_learn", "opencv_python_headless"} <= collected


def test_debian_boots_in_a_container(debian, boot):
    assert boot([debian]).run("systemctl", "is-system-running") == "running\n"


def test_the_package_holds_programs_units_and_documents_as_debian_has_them(package):
    packed = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        members = {member.name.removeprefix("."): member for member in archive}
    for path in (
        "/usr/lib/systemd/system/her2d.service",
        "/usr/lib/systemd/system/her2d-care.timer",
        "/usr/lib/sysusers.d/her2d.conf",
        "/usr/lib/tmpfiles.d/her2d.conf",
        "/usr/share/man/man1/her2d.1.gz",
        "/usr/share/bash-completion/completions/her2d",
        "/usr/share/zsh/vendor-completions/_her2d",
        "/usr/share/fish/vendor_completions.d/her2d.fish",
        "/usr/share/doc/her2d/copyright",
        "/opt/her2d/bin/her2d",
        CONFIG,
    ):
        assert members[path].isfile(), path
    assert members["/usr/bin/her2d"].linkname == "/opt/her2d/bin/her2d"
    assert {(m.uname, m.gname) for m in members.values()} == {("root", "root")}
    assert {m.mtime for m in members.values()} == {1700000000}, "reproducible"
    assert not [
        path for path in members if path.startswith(("/var", "/srv", "/etc/systemd", "/usr/local"))
    ]


def test_an_installed_package_waits_for_a_person_to_enable_it_and_then_runs(packaged, boot):
    assert "systemctl enable --now" in (packaged[0].parent / "said").read_text()
    machine = boot(packaged)
    assert machine.try_run("systemctl", "is-enabled", "her2d").stdout == "disabled\n"
    assert machine.show("her2d", "ActiveState") == "inactive"
    assert machine.run("stat", "-c", "%U:%G %a", CONFIG) == "root:her2d 640\n"
    assert machine.run("stat", "-c", "%U:%G %a", "/var/lib/her2d") == "her2d:her2d 750\n"
    assert machine.run("her2d", "--version").startswith("her2d ")
    machine.run("her2d", "doctor", user="her2d")
    machine.run("systemctl", "enable", "--now", "her2d")
    assert machine.show("her2d", "ActiveState") == "active"


def test_an_upgrade_restarts_the_daemon_and_keeps_settings_and_results(
    debian, package, clone, boot, tmp_path
):
    newer = next_version(clone / "dist" / "deb", tmp_path)
    machine = boot([debian], package, newer)
    machine.run("dpkg", *WITHOUT_FSYNC, "-i", package)
    machine.shell(f"echo '# ours' >> {CONFIG}")
    machine.run("systemctl", "enable", "--now", "her2d")
    first, inode = machine.show("her2d", "MainPID"), machine.run("stat", "-c", "%i", RESULT)
    machine.run("dpkg", *WITHOUT_FSYNC, "--force-confold", "-i", newer)
    assert machine.run("dpkg-query", "-W", "-f", "${Version}", "her2d").startswith("9+")
    assert machine.run("tail", "-1", CONFIG) == "# ours\n"
    assert machine.run("stat", "-c", "%U:%G %a", CONFIG) == "root:her2d 640\n"
    assert "explained here" in machine.run("cat", f"{CONFIG}.dpkg-dist")
    machine.wait_until(lambda: machine.show("her2d", "ActiveState") == "active")
    assert machine.show("her2d", "MainPID") != first
    assert "daemon_stopped" in machine.journal()
    assert machine.run("stat", "-c", "%i", RESULT) == inode


def test_remove_and_purge_leave_the_results(packaged, boot):
    machine = boot(packaged)
    machine.run("systemctl", "enable", "--now", "her2d")
    machine.shell("umask 077; echo HER2D_WEBHOOK__SECRET=x > /etc/her2d/secrets.env")
    machine.run("dpkg", *WITHOUT_FSYNC, "-r", "her2d")
    assert machine.try_run("systemctl", "is-active", "her2d").stdout == "inactive\n"
    assert machine.try_run("test", "-e", "/opt/her2d").returncode == 1
    machine.run("test", "-e", CONFIG)
    machine.run("test", "-e", RESULT)
    assert "/var/lib/her2d" in machine.run("dpkg", "-P", "her2d")
    machine.run("test", "-e", RESULT)
    assert machine.try_run("test", "-e", "/etc/her2d").returncode == 1
    assert machine.shell("find /etc/systemd -name '*her2d*'") == ""


def test_a_package_is_refused_where_make_install_was_used(package, installed, boot):
    machine = boot(installed, package)
    refused = machine.try_run("dpkg", "-i", package)
    assert refused.returncode != 0
    assert "make uninstall" in refused.stderr
    machine.run("/usr/local/bin/her2d", "--version")
