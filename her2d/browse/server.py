"""The web server: Datasette on one database, read-only, with our pages."""

from functools import lru_cache
from importlib import resources
from pathlib import Path

import uvicorn
from datasette.app import Datasette
from datasette.plugins import pm

from her2d.browse.pictures import PictureShelf
from her2d.browse.routes import Her2dPages
from her2d.db.connection import open_readonly
from her2d.results.stored_run import StoredRun, read_run

_RUNS = 32
_THEIR_ERRORS = "datasette.handle_exception"
_PLUGIN = "her2d-pages"
_SQL_LIMIT_MS = 5000


def build_datasette(database: Path) -> Datasette:
    """Datasette over `database`. It opens it read-only; so do our pages.

    Raises:
        DatabaseError: there is no database, or it has another version's schema.
    """
    open_readonly(database).close()

    @lru_cache(_RUNS)
    def run(run_id: int) -> StoredRun:
        db = open_readonly(database)
        try:
            return read_run(db, run_id)
        finally:
            db.close()

    # It prints every exception, a missing page too, with all local variables, which rich 15
    # refuses; Her2dPages.handle_exception answers instead.
    if pm.has_plugin(_THEIR_ERRORS):
        pm.unregister(name=_THEIR_ERRORS)
    # Datasette's plugins are the process's: the last one built is the one that serves.
    if pm.has_plugin(_PLUGIN):
        pm.unregister(name=_PLUGIN)
    pm.register(Her2dPages(PictureShelf(run), run), name=_PLUGIN)
    ours = Path(str(resources.files("her2d.browse")))
    return Datasette(
        files=[str(database)],
        static_mounts=[("her2d-static", str(ours / "static"))],
        settings={"sql_time_limit_ms": _SQL_LIMIT_MS, "allow_download": False},
    )


def serve(database: Path, host: str, port: int) -> None:
    """Serve until interrupted. Raises DatabaseError."""
    app = build_datasette(database).app()
    uvicorn.run(app, host=host, port=port, log_level="warning", lifespan="on", workers=1)
