"""Our pages, as a Datasette plugin (https://docs.datasette.io/en/stable/plugin_hooks.html)."""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from datasette import hookimpl
from datasette.app import Datasette
from datasette.utils.asgi import Request, Response
from sqlite_utils import Database

from her2d.browse.hosts import App, for_this_machine_only
from her2d.browse.pages import ListQuery, Viewer, slide_list, slide_page
from her2d.browse.pictures import PictureShelf, ScanMissing
from her2d.browse.zoom import TILE, NoSuchTile, ZoomGrid
from her2d.results.pictures import PicturesMissing
from her2d.results.stored_run import TILE_SIZE, StoredRun

Answer = TypeVar("Answer")
View = Callable[..., Coroutine[Any, Any, Response]]

_log = logging.getLogger(__name__)

_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline';"
    " frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_FOREVER = "private, max-age=31536000, immutable"
_NUMBER = "[0-9]{1,15}"
_AT_ONCE = 4  # pictures made at a time, however many are asked for


class Her2dPages:
    """The plugin: pictures come from the shelf, runs by `read_run`, which raises KeyError."""

    # Datasette knows plugins by the name of their module and looks for templates beside it.
    __name__ = "her2d.browse"

    def __init__(self, shelf: PictureShelf, read_run: Callable[[int], StoredRun]) -> None:
        self._shelf = shelf
        self._read_run = read_run
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="her2d-browse")

    @hookimpl  # type: ignore[untyped-decorator]
    def register_routes(self) -> list[tuple[str, View]]:
        run = rf"^/pictures/(?P<run>{_NUMBER})"
        tile = rf"/tiles/(?P<level>{_NUMBER})/(?P<column>{_NUMBER})_(?P<row>{_NUMBER})\.jpg$"
        return [
            (r"^/$", self.list),
            (rf"^/slides/(?P<slide>{_NUMBER})$", self.slide),
            (rf"{run}/thumbnail\.jpg$", self.thumbnail),
            (rf"{run}/overview\.jpg$", self.overview),
            (rf"{run}/overlay\.png$", self.overlay),
            (rf"{run}/tiles\.json$", self.classes),
            (run + tile, self.tile),
        ]

    @hookimpl  # type: ignore[untyped-decorator]
    def asgi_wrapper(self) -> Callable[[App], App]:
        return for_this_machine_only

    @hookimpl  # type: ignore[untyped-decorator]
    def handle_exception(self, request: Request, exception: Exception) -> Response:
        status = int(getattr(exception, "status", 500))
        if status == 500:
            _log.error("a page failed", exc_info=exception, extra={"path": request.path})
            return Response("Something went wrong; the terminal says what.", status=500)
        sentence = str(getattr(exception, "message", exception)) or "There is no such page."
        if request.path.endswith(".json"):
            return Response.json({"ok": False, "error": sentence}, status=status)
        return Response(sentence, status=status, content_type="text/plain; charset=utf-8")

    async def list(self, datasette: Datasette, request: Request) -> Response:
        asked = (request.args.get(name, "") for name in ("text", "status", "flag", "sort", "page"))
        query = ListQuery.of(*asked)
        page = await _ask(datasette, lambda db: slide_list(db, query))
        return await _html(datasette, request, "her2d_list.html", {"page": page, "query": query})

    async def slide(self, datasette: Datasette, request: Request) -> Response:
        slide_id = int(request.url_vars["slide"])
        try:
            page = await _ask(datasette, lambda db: slide_page(db, slide_id))
            viewer = await self._off_loop(lambda: self._viewer(page.result.run_id))
        except KeyError:
            return _missing("There is no result for this slide.")
        return await _html(datasette, request, "her2d_slide.html", {"page": page, "viewer": viewer})

    async def thumbnail(self, request: Request) -> Response:
        return await self._picture(request, self._shelf.thumbnail, "image/jpeg")

    async def overview(self, request: Request) -> Response:
        return await self._picture(request, self._shelf.overview, "image/jpeg")

    async def overlay(self, request: Request) -> Response:
        return await self._picture(request, self._shelf.overlay, "image/png")

    async def tile(self, request: Request) -> Response:
        level, column, row = (int(request.url_vars[name]) for name in ("level", "column", "row"))
        return await self._picture(
            request, lambda run: self._shelf.tile(run, level, column, row), "image/jpeg"
        )

    async def classes(self, request: Request) -> Response:
        """Each tile's class and probability, for the pointer to tell."""
        run_id = int(request.url_vars["run"])
        try:
            tiles = (await self._off_loop(lambda: self._read_run(run_id))).tiles
        except KeyError:
            return _missing("There is no such run.")
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
            self._shelf.scan(run)
        except ScanMissing as error:
            missing = str(error)
        pictures: str | None = None
        try:
            self._shelf.overview(run_id)
        except PicturesMissing as error:
            pictures = str(error)
        geometry = run.geometry
        return Viewer(
            base=f"/pictures/{run_id}",
            width=geometry.width,
            height=geometry.height,
            tile_side=geometry.tile_side,
            um_per_px=geometry.um_per_px * TILE_SIZE / geometry.tile_side,
            tile=TILE,
            max_level=ZoomGrid(geometry.width, geometry.height).max_level,
            scan_missing=missing,
            pictures_missing=pictures,
        )

    async def _picture(
        self, request: Request, draw: Callable[[int], bytes], content_type: str
    ) -> Response:
        run_id = int(request.url_vars["run"])
        try:
            body = await self._off_loop(lambda: draw(run_id))
        except KeyError:
            return _missing("There is no such run.")
        except (NoSuchTile, PicturesMissing, ScanMissing) as error:
            return _missing(str(error))
        return Response(body, content_type=content_type, headers={"cache-control": _FOREVER})

    async def _off_loop(self, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


async def _ask(datasette: Datasette, question: Callable[[Database], Answer]) -> Answer:
    """On one of Datasette's own read-only connections."""
    answer: Answer = await datasette.get_database().execute_fn(
        lambda connection: question(Database(connection))
    )
    return answer


async def _html(
    datasette: Datasette, request: Request, template: str, context: dict[str, object]
) -> Response:
    body = await datasette.render_template(template, context, request=request)
    headers = {"content-security-policy": _POLICY, "cache-control": "no-store"}
    return Response(body, content_type="text/html; charset=utf-8", headers=headers)


def _missing(sentence: str) -> Response:
    return Response(sentence, status=404, content_type="text/plain; charset=utf-8")
