"""How `her2d run` ends where it cannot start."""

import os
import socket
import subprocess
import sys

from daemon_site import PATIENCE_S, Site

from her2d.db.connection import open_database, schema_version

# A her2d with one more migration; what follows its file's name is the command it stands in for.
WITH_A_MIGRATION = """
import sys
from pathlib import Path
from her2d.db import connection
migration, _, _, _, *arguments = sys.argv[1:]
connection._MIGRATIONS += (Path(migration),)
from her2d.cli import main
sys.argv = ["her2d", *arguments]
main()
"""


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
    open_database(site.database).close()
    migration = tmp_path / "0002_second.sql"
    migration.write_text("create table second (x);")
    with site.daemon(prefix=[sys.executable, "-c", WITH_A_MIGRATION, str(migration)]):
        pass
    assert schema_version(site.database) == 2
    (copy,) = site.folder.glob("her2d.schema-1-*.sqlite")
    assert schema_version(copy) == 1
    assert [line["copy"] for line in site.lines() if line["event"] == "database_migrated"] == [
        str(copy)
    ]


def test_a_port_that_is_in_use_ends_it_with_one_sentence(tmp_path, color_bundle):
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
