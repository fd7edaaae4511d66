"""The web server: Datasette on one database, read-only, with the pages of `routes`."""

from functools import lru_cache
from importlib import resources
from pathlib import Path

import uvicorn
from datasette.app import Datasette
from datasette.plugins import pm

from her2d.browse.pictures import PictureCache
from her2d.browse.routes import Her2dPages
from her2d.db.connection import open_readonly
from her2d.results.stored_run import StoredRun, read_run

_RUNS = 32
_DATASETTE_HANDLER = "datasette.handle_exception"
_PLUGIN = "her2d-pages"
_SQL_LIMIT_MS = 5000


def build_datasette(database: Path) -> Datasette:
    """Build a Datasette on `database`, which it and the pages open read-only.

    Raises:
        DatabaseError: the database does not exist, or its schema is of another version.
    """
    open_readonly(database).close()

    @lru_cache(_RUNS)
    def run(run_id: int) -> StoredRun:
        db = open_readonly(database)
        try:
            return read_run(db, run_id)
        finally:
            db.close()

    # Datasette's handler prints every exception, even for a missing page, with all local variables,
    # at which rich 15 fails. Her2dPages.handle_exception replaces it.
    if pm.has_plugin(_DATASETTE_HANDLER):
        pm.unregister(name=_DATASETTE_HANDLER)
    # Datasette's plugins are global to the process; the one of an earlier call is replaced.
    if pm.has_plugin(_PLUGIN):
        pm.unregister(name=_PLUGIN)
    pm.register(Her2dPages(PictureCache(run), run), name=_PLUGIN)
    folder = Path(str(resources.files("her2d.browse")))
    return Datasette(
        files=[str(database)],
        static_mounts=[("her2d-static", str(folder / "static"))],
        settings={"sql_time_limit_ms": _SQL_LIMIT_MS, "allow_download": False},
    )


def serve(database: Path, host: str, port: int) -> None:
    """Serve until interrupted. Raises DatabaseError."""
    app = build_datasette(database).app()
    uvicorn.run(app, host=host, port=port, log_level="warning", lifespan="on", workers=1)
