"""A sound installation under systemd, below a folder, for tests to break and `doctor` to check."""

import getpass
import http.server
import json
import os
import pwd
import shutil
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from systemctl import write_answers
from typer.testing import CliRunner

from her2d.bundle.loading import Bundle, sha256_of
from her2d.cli.app import app
from her2d.db.backup import back_up
from her2d.db.connection import open_database

PROJECT = Path(__file__).parents[1]
UNITS = ("her2d.service", "her2d-care.service", "her2d-care.timer")
IS_ROOT = os.geteuid() == 0
SERVICE = pwd.getpwnam("nobody" if IS_ROOT else getpass.getuser())
"""The user that the units run as. Root may read everything, which would hide what is closed."""

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can give files to another user")


@dataclass
class Installation:
    """The installation's files. `settings` are written to config.toml before doctor runs."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    on_exit: list[Any] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "etc" / "config.toml"

    @property
    def units(self) -> Path:
        return self.folder / "units"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def database(self) -> Path:
        return self.state / "her2d.sqlite"

    @property
    def inbox(self) -> Path:
        return self.folder / "scans" / "inbox"

    @property
    def archive(self) -> Path:
        return self.folder / "scans" / "archive"

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    def set(self, section: str, **keys: object) -> None:
        self.settings.setdefault(section, {}).update(keys)

    def drop_in(self, *lines: str, unit: str = "her2d.service") -> None:
        """Add a drop-in, as `systemctl edit` does."""
        folder = self.units / f"{unit}.d"
        folder.mkdir(exist_ok=True)
        number = len(list(folder.iterdir()))
        (folder / f"{number:02}.conf").write_text("[Service]\n" + "\n".join(lines) + "\n")

    def unit_state(self, *lines: str, unit: str = "her2d.service") -> None:
        """Say what a running systemd would know of a unit."""
        (self.units / f"{unit}.state").write_text("\n".join(lines) + "\n")

    def program(self, name: str, script: str) -> None:
        """Put a shell script in front of the machine's program of the same name."""
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def give(self, *paths: Path, user: str | int = SERVICE.pw_uid) -> None:
        """Give paths and what is below them to a user."""
        for path in paths:
            for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
                if IS_ROOT:
                    shutil.chown(each, user)

    def manifest_follows(self, part: str) -> None:
        """Write the hash of a part's changed file into the manifest."""
        import tomllib

        path = self.bundle / "manifest.toml"
        manifest = tomllib.loads(path.read_text())
        file = self.bundle / manifest["parts"][part]["file"]
        manifest["parts"][part]["sha256"] = sha256_of(file)
        path.write_text(tomli_w.dumps(manifest))

    def write_config(self) -> None:
        self.config.write_text(tomli_w.dumps(self.settings))

    def doctor(self) -> tuple[int, list[dict[str, str]], str]:
        """Run `her2d doctor`; returns its exit code, its findings and what it said on stderr."""
        write_answers(self.units, UNITS)
        found = CliRunner().invoke(app, ["doctor", "--json", "--config", str(self.config)])
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return found.exit_code, json.loads(found.stdout)["findings"], found.stderr

    def import_everything(self) -> None:
        """Import what a check needs, because that Python may be closed to the service's user."""
        (self.units / "her2d.service.d" / "99.conf").write_text("[Service]\nUser=root\n")
        self.doctor()
        (self.units / "her2d.service.d" / "99.conf").unlink()

    def finish(self) -> None:
        for end in reversed(self.on_exit):
            end()


@contextmanager
def installation(
    folder: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    """Make a sound installation: config, units, folders, database, backup, bundle and webhook."""
    site = Installation(folder, monkeypatch)
    for each in (site.config.parent, site.units, folder / "bin", site.state, site.inbox):
        each.mkdir(parents=True)
    for each in (site.archive, site.state / "heatmaps", site.state / "backups"):
        each.mkdir()
    shutil.copytree(bundle.directory, site.bundle)
    _let_others_enter(folder)
    open_database(site.database).close()
    back_up(site.database, site.state / "backups")
    site.give(site.state, site.inbox.parent)
    site.settings = {
        "intake": {
            "inboxes": [str(site.inbox)],
            "on_success": "move",
            "archive": str(site.archive),
            "min_free_mb": 1.0,
        },
        "bundle": {"path": str(site.bundle)},
        "inference": {"threads": 1},
        "results": {
            "database": str(site.database),
            "heatmaps": str(site.state / "heatmaps"),
            "backups": str(site.state / "backups"),
        },
        "ops": {"port": free_port()},
    }
    _install_units(site)
    _programs(site)
    # The Python that runs the tests may be in a folder of root; it is not the installation's.
    monkeypatch.setattr("her2d.doctor.units._PROGRAM", ())
    # How full the disk of the machine is that runs the tests says nothing of the installation.
    monkeypatch.setattr("her2d.doctor.database._LOW_BYTES", 0)
    monkeypatch.setattr("her2d.doctor.database._EMPTY_BYTES", 0)
    site.write_config()
    site.config.chmod(0o640)
    if IS_ROOT:
        os.chown(site.config, 0, SERVICE.pw_gid)
    try:
        yield site
    finally:
        site.finish()


def _let_others_enter(folder: Path) -> None:
    """pytest's folders are closed to others, and the service is another user."""
    top = Path(tempfile.gettempdir())
    for each in (folder, *folder.parents):
        if each.is_relative_to(top) and each != top and IS_ROOT:
            each.chmod(each.stat().st_mode | 0o011)


def _install_units(site: Installation) -> None:
    """Install the project's own units, with a drop-in that names the folders of this site."""
    for unit in UNITS:
        shutil.copy(PROJECT / "systemd" / unit, site.units)
    for unit in ("her2d.service", "her2d-care.service"):
        lines = (f"User={SERVICE.pw_name}", "PrivateTmp=no", "ProtectHome=no", "EnvironmentFile=")
        site.drop_in(*lines, f"ReadWritePaths={site.folder}", unit=unit)
    for target, unit in (("multi-user", "her2d.service"), ("timers", "her2d-care.timer")):
        wants = site.units / f"{target}.target.wants"
        wants.mkdir()
        (wants / unit).symlink_to(site.units / unit)


def _programs(site: Installation) -> None:
    site.program("systemctl", f'cat "{site.units}/$2.show"')
    site.program("timedatectl", "echo yes")
    site.monkeypatch.setenv("PATH", f"{site.folder / 'bin'}:{os.environ['PATH']}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_webhook(site: Installation, status: int = 405, certificate: Path | None = None) -> str:
    """Run a receiver that answers HEAD requests with `status`; return its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    site.on_exit += [thread.join, server.server_close, server.shutdown]
    return f"{scheme}://127.0.0.1:{server.server_port}/hook"


def self_signed(folder: Path) -> Path:
    """Return a file with a key and a certificate that nobody trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed (Debian package openssl)")
    path = folder / "webhook.pem"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    subprocess.run(
        ["openssl", "req", "-x509", *kind, "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", f"{path}.crt"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def small_disk(site: Installation, folder: Path, size: str = "2m") -> None:
    """Mount a small file system on a folder, for the service's user."""
    owner = f"uid={SERVICE.pw_uid},mode=755,size={size}"
    found = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", owner, "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        pytest.skip(f"file systems cannot be mounted here: {found.stderr.strip()}")
    site.on_exit.append(lambda: subprocess.run(["umount", str(folder)], check=True))


def lock_database(site: Installation) -> None:
    """Let another connection hold the lock for writing until the test ends."""
    connection = sqlite3.connect(site.database, isolation_level=None, check_same_thread=False)
    connection.execute("begin immediate")
    site.on_exit.append(connection.close)


def change_database(site: Installation, statement: str) -> None:
    with closing(sqlite3.connect(site.database)) as connection:
        connection.execute(statement)
        connection.commit()
    site.give(site.state)
