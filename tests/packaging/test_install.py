"""What `make install` and `make uninstall` do, as root and for packagers."""

import os
import subprocess

import pytest
from debian_machine import needs_container

pytestmark = [pytest.mark.slow, needs_container]

# What DESTDIR has below /opt/her2d, as a machine would that it is copied to.
_IN_PLACE = """
mount -t tmpfs none /opt
mkdir /opt/her2d
mount --bind "$1/opt/her2d" /opt/her2d
cd /
shift
exec "$@"
"""


def test_what_destdir_installs_runs_from_its_final_place(package, clone, tmp_path):
    staged = clone / "dist" / "deb"
    config = tmp_path / "config.toml"
    (tmp_path / "inbox").mkdir()
    text = (clone / "config.toml").read_text()
    config.write_text(text.replace('"engines/her2net-demo"', f'"{clone}/engines/her2net-demo"'))
    for command in (
        ["/opt/her2d/bin/her2d", "--version"],
        ["/opt/her2d/bin/her2d", "doctor", "--config", str(config)],
        ["/opt/her2d/bin/pip", "--version"],
    ):
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-euc", _IN_PLACE, "sh", staged, *command],
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_in_destdir_names_destdir(package, clone):
    staged = clone / "dist" / "deb"
    found = subprocess.run(
        ["grep", "-rlF", staged, staged], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


@pytest.mark.parametrize(
    ("plant", "refused"),
    [
        ("ln -s /root/victim $state/engines", True),
        ("mkdir $state/engines; ln -s /root/victim $state/engines/her2net-demo", False),
        (
            "mkdir -p $state/engines/her2net-demo;"
            " ln -s /root/victim/file $state/engines/her2net-demo/manifest.toml",
            False,
        ),
    ],
)
def test_root_follows_no_link_that_the_service_planted(installed, clone, boot, plant, refused):
    machine = boot(installed, clone)
    machine.shell(
        "mkdir /root/victim; echo mine > /root/victim/file; chmod 755 /root/victim;"
        " touch -d 2001-01-01 /root/victim/file /root/victim"
    )
    machine.shell(f"state=/var/lib/her2d; rm -rf $state/engines; {plant}", user="her2d")
    done = machine.try_run("make", "-C", clone, "install", "WHEELS=dist/wheels")
    assert (done.returncode != 0) == refused, done.stdout + done.stderr
    seen = machine.run("stat", "-c", "%n %U %a %Y", "/root/victim", "/root/victim/file")
    assert seen == "/root/victim root 755 978307200\n/root/victim/file root 644 978307200\n"


def test_uninstall_leaves_settings_and_results_and_no_service(installed, clone, boot):
    machine = boot(installed, clone)
    machine.run("systemctl", "enable", "--now", "her2d", "her2d-care.timer")
    uninstall = ("make", "-s", "-C", clone, "uninstall")
    assert "systemctl stop her2d" in machine.try_run(*uninstall).stderr
    machine.run("systemctl", "stop", "her2d", "her2d-care.timer")
    assert "/var/lib/her2d" in machine.run(*uninstall)
    left = machine.shell("find / -xdev -name '*her2d*' -not -path '/tmp/*' -not -name stamp-*")
    assert set(left.split()) == {"/etc/her2d", "/srv/her2d", "/var/lib/her2d"} | {
        path for path in left.split() if path.startswith("/var/lib/her2d/")
    }
    assert "bundle" in machine.run("cat", "/etc/her2d/config.toml")
