"""The pages as a Datasette plugin (https://docs.datasette.io/en/stable/plugin_hooks.html)."""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import unquote

import numpy as np
from datasette import hookimpl
from datasette.app import Datasette
from datasette.utils.asgi import Request, Response
from sqlite_utils import Database

from her2d.browse.downloads import without_formulas
from her2d.browse.hosts import App, for_this_machine_only
from her2d.browse.pages import ListQuery, Viewer, slide_list, slide_page
from her2d.browse.pictures import PictureCache, ScanMissing
from her2d.browse.zoom import TILE, NoSuchTile, ZoomGrid
from her2d.method import TILE_PX
from her2d.results.pictures import PicturesMissing
from her2d.results.queries import AmbiguousSlide, SlideNotFound
from her2d.results.stored_run import StoredRun, TilesPruned, tiles_pruned

Result = TypeVar("Result")
View = Callable[..., Coroutine[Any, Any, Response]]

_log = logging.getLogger(__name__)

_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline';"
    " frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_FOREVER = "private, max-age=31536000, immutable"
_NUMBER = "[0-9]{1,15}"
_THREADS = 4  # pictures made at the same time, however many are requested


class Her2dPages:
    """The plugin. Pictures come from `cache`, runs from `read_run`, which raises KeyError."""

    # Datasette takes this for the plugin's module, and looks for templates in its folder.
    __name__ = "her2d.browse"

    def __init__(self, cache: PictureCache, read_run: Callable[[int], StoredRun]) -> None:
        self._cache = cache
        self._read_run = read_run
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="her2d-browse")

    @hookimpl  # type: ignore[untyped-decorator]
    def register_routes(self) -> list[tuple[str, View]]:
        run = rf"^/pictures/(?P<run>{_NUMBER})"
        tile = rf"/tiles/(?P<level>{_NUMBER})/(?P<column>{_NUMBER})_(?P<row>{_NUMBER})\.jpg$"
        return [
            (r"^/$", self.list),
            (r"^/slides/(?P<slide>[^/]{1,1000})$", self.slide),
            (rf"{run}/thumbnail\.jpg$", self.thumbnail),
            (rf"{run}/overview\.jpg$", self.overview),
            (rf"{run}/overlay\.png$", self.overlay),
            (rf"{run}/tiles\.json$", self.classes),
            (run + tile, self.tile),
        ]

    @hookimpl  # type: ignore[untyped-decorator]
    def asgi_wrapper(self) -> Callable[[App], App]:
        return lambda app: for_this_machine_only(without_formulas(app))

    @hookimpl  # type: ignore[untyped-decorator]
    def handle_exception(self, request: Request, exception: Exception) -> Response:
        status = int(getattr(exception, "status", 500))
        if status == 500:
            _log.error("a page failed", exc_info=exception, extra={"path": request.path})
            return Response("An error occurred. The terminal shows it.", status=500)
        sentence = str(getattr(exception, "message", exception)) or "There is no such page."
        if request.path.endswith(".json"):
            return Response.json({"ok": False, "error": sentence}, status=status)
        return Response(sentence, status=status, content_type="text/plain; charset=utf-8")

    async def list(self, datasette: Datasette, request: Request) -> Response:
        names = ("text", "status", "flag", "reason", "sort", "page")
        query = ListQuery.of(*(request.args.get(name, "") for name in names))
        page = await _run_query(datasette, lambda db: slide_list(db, query))
        return await _html(datasette, request, "her2d_list.html", {"page": page, "query": query})

    async def slide(self, datasette: Datasette, request: Request) -> Response:
        key = unquote(request.url_vars["slide"])
        try:
            page = await _run_query(datasette, lambda db: slide_page(db, key))
            viewer = await self._in_thread(lambda: self._viewer(page.result.run_id))
        except (SlideNotFound, KeyError):
            return _missing("There is no result for this slide.")
        except AmbiguousSlide as error:
            return _refused(409, str(error))
        return await _html(datasette, request, "her2d_slide.html", {"page": page, "viewer": viewer})

    async def thumbnail(self, request: Request) -> Response:
        return await self._picture(request, self._cache.thumbnail, "image/jpeg")

    async def overview(self, request: Request) -> Response:
        return await self._picture(request, self._cache.overview, "image/jpeg")

    async def overlay(self, request: Request) -> Response:
        return await self._picture(request, self._cache.overlay, "image/png")

    async def tile(self, request: Request) -> Response:
        level, column, row = (int(request.url_vars[name]) for name in ("level", "column", "row"))
        return await self._picture(
            request, lambda run: self._cache.tile(run, level, column, row), "image/jpeg"
        )

    async def classes(self, request: Request) -> Response:
        """Return each tile's class and probability, shown next to the pointer."""
        run_id = int(request.url_vars["run"])
        try:
            tiles = (await self._in_thread(lambda: self._read_run(run_id))).tiles
        except KeyError:
            return _missing("There is no such run.")
        except TilesPruned as error:
            return _missing(str(error))
        rows = [
            [
                int(column),
                int(row),
                tile_class,
                None if np.isnan(p) else round(float(p), 3),
                int(tumor),
            ]
            for column, row, tile_class, p, tumor in zip(
                tiles.column,
                tiles.row,
                tiles.tile_class,
                tiles.p_strong,
                tiles.tumor_pixels,
                strict=True,
            )
        ]
        return Response(
            json.dumps(rows), content_type="application/json", headers={"cache-control": _FOREVER}
        )

    def _viewer(self, run_id: int) -> Viewer:
        run = self._read_run(run_id)
        missing: str | None = None
        try:
            self._cache.scan(run)
        except ScanMissing as error:
            missing = str(error)
        pictures: str | None = None
        try:
            self._cache.overview(run_id)
        except PicturesMissing as error:
            pictures = str(error)
        pruned = None
        if run.tiles_pruned_at is not None:
            pruned = tiles_pruned(run.result, run.tiles_pruned_at)
        geometry = run.geometry
        return Viewer(
            base=f"/pictures/{run_id}",
            width=geometry.width,
            height=geometry.height,
            tile_side=geometry.tile_side,
            um_per_px=geometry.um_per_px * TILE_PX / geometry.tile_side,
            tile=TILE,
            max_level=ZoomGrid(geometry.width, geometry.height).max_level,
            scan_missing=missing,
            pictures_missing=pictures,
            tiles_pruned=pruned,
        )

    async def _picture(
        self, request: Request, draw: Callable[[int], bytes], content_type: str
    ) -> Response:
        run_id = int(request.url_vars["run"])
        try:
            body = await self._in_thread(lambda: draw(run_id))
        except KeyError:
            return _missing("There is no such run.")
        except (NoSuchTile, PicturesMissing, ScanMissing, TilesPruned) as error:
            return _missing(str(error))
        return Response(body, content_type=content_type, headers={"cache-control": _FOREVER})

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


async def _run_query(datasette: Datasette, query: Callable[[Database], Result]) -> Result:
    """Run a query on one of Datasette's read-only connections."""
    result: Result = await datasette.get_database().execute_fn(
        lambda connection: query(Database(connection))
    )
    return result


async def _html(
    datasette: Datasette, request: Request, template: str, context: dict[str, object]
) -> Response:
    body = await datasette.render_template(template, context, request=request)
    headers = {"content-security-policy": _POLICY, "cache-control": "no-store"}
    return Response(body, content_type="text/html; charset=utf-8", headers=headers)


def _missing(sentence: str) -> Response:
    return _refused(404, sentence)


def _refused(status: int, sentence: str) -> Response:
    return Response(sentence, status=status, content_type="text/plain; charset=utf-8")
