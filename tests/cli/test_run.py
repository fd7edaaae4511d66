"""How `her2d run` starts on a database of an older version."""

import sys

from daemon_site import Site

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
