"""How `her2d run` ends where it cannot start."""

import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib import resources

from daemon_site import PATIENCE_S, Site

from her2d.db.connection import schema_version


def run(site: Site) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "her2d", "run", "--config", str(site.config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env={**os.environ, "HER2D_OPS__LOG_LEVEL": "error"},
    )


def test_an_older_database_is_copied_before_it_is_migrated(tmp_path, color_bundle):
    site = Site.made(tmp_path / "site", color_bundle)
    script = resources.files("her2d.db").joinpath("migrations", "0001_initial.sql").read_text()
    with closing(sqlite3.connect(site.database)) as connection:
        connection.executescript(script)
        connection.execute("pragma user_version = 1")
        connection.commit()
    with site.daemon():
        pass
    (copy,) = site.folder.glob("her2d.schema-1-*.sqlite")
    assert schema_version(copy) == 1
    assert [line["copy"] for line in site.lines() if line["event"] == "database_migrated"] == [
        str(copy)
    ]


def test_a_port_that_is_taken_ends_it_with_one_sentence(tmp_path, color_bundle):
    site = Site.made(tmp_path / "site", color_bundle)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        site.set("ops", port=port)
        ended = run(site)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"her2d: Cannot listen on 127.0.0.1:{port}: address already in use. Stop the program that"
        " uses it, or change [ops] port or host.\n"
    )
