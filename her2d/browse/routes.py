"""The pages, pictures and downloads, and which address has which."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from her2d.browse.answers import (
    CsvDownload,
    answering,
    json_answer,
    parameters,
    picture,
)
from her2d.browse.database import ResultsDatabase
from her2d.browse.downloads import CHUNK, FILTERS, QUERIES, NamedQuery, Rows, csv_of, json_rows
from her2d.browse.originals import Originals, ScanMissing, ScanUnverified
from her2d.browse.pages import (
    PARAMETERS,
    ListQuery,
    Viewer,
    number_of,
    slide_list,
    slide_page,
)
from her2d.browse.pictures import PictureCache
from her2d.browse.runs import Runs
from her2d.browse.workers import TooBusy, Workers
from her2d.browse.zoom import TILE, NoSuchTile, ZoomGrid
from her2d.results.pictures import PicturesMissing
from her2d.results.stored_run import tiles_pruned
from her2d.system.text import printable

Converted = TypeVar("Converted")

_LONGEST_NUMBER = 15
_LARGEST_ID = 2**63 - 1
_COMPARING_S = 1.0  # the page of a slide waits so long for a small scan to be compared
_RELOAD_S = 3
_NO_ANSWER = (
    "The original scan cannot be shown, because its storage, or that of another slide, does not"
    " answer."
)


class Pages:
    """Everything that the server answers with, from the results in `database`."""

    def __init__(self, database: ResultsDatabase) -> None:
        self._database = database
        self._runs = Runs(database)
        self._originals = Originals()
        self._pictures = PictureCache(self._runs, self._originals)
        self._lists = Workers("list", threads=2, waiting=50, timeout_s=15)
        self._searches = Workers("search", threads=2, waiting=20, timeout_s=30)
        self._slides = Workers("slide", threads=2, waiting=50, timeout_s=30)
        # What needs the original is apart, because its storage may hang.
        self._tiles = Workers("tile", threads=4, waiting=300, timeout_s=30)
        self._drawing = Workers("picture", threads=4, waiting=300, timeout_s=30)
        self._checks = Workers("original", threads=4, waiting=20, timeout_s=5)
        self._downloads = Workers("download", threads=2, waiting=20, timeout_s=60)
        self._templates = _templates()

    def routes(self) -> list[BaseRoute]:
        """Return the addresses."""
        run = "/pictures/{run}"
        views = {
            "/": self.list,
            "/slides/{slide:path}": self.slide,
            f"{run}/thumbnail.jpg": self.thumbnail,
            f"{run}/overview.jpg": self.overview,
            f"{run}/overlay.png": self.overlay,
            f"{run}/tiles.json": self.classes,
            f"{run}/tiles/{{level}}/{{column}}_{{row}}.jpg": self.tile,
            "/queries": self.queries,
            "/queries/{name}.csv": self.csv,
            "/queries/{name}.json": self.json,
        }
        static = StaticFiles(directory=Path(__file__).parent / "static")
        return [
            *(Route(path, answering(view), methods=["GET"]) for path, view in views.items()),
            Mount("/her2d-static", static),
        ]

    def close(self) -> None:
        """End the work of all threads."""
        self._originals.close()
        for workers in (
            self._lists,
            self._searches,
            self._slides,
            self._tiles,
            self._drawing,
            self._checks,
            self._downloads,
        ):
            workers.close()

    async def list(self, request: Request) -> Response:
        query = ListQuery.of(parameters(request, PARAMETERS))
        workers = self._lists if query.is_quick else self._searches
        page = await workers.run(lambda: self._database.run(lambda db: slide_list(db, query)))
        return self._html("her2d_list.html", page=page, query=query)

    async def slide(self, request: Request) -> Response:
        parameters(request)
        key = request.path_params["slide"]
        page = await self._slides.run(lambda: self._database.run(lambda db: slide_page(db, key)))
        run_id = page.result.run_id
        missing, is_comparing = await self._problem_of_scan(run_id)
        viewer = await self._drawing.run(lambda: self._viewer(run_id, missing))
        response = self._html("her2d_slide.html", page=page, viewer=viewer)
        if is_comparing:
            response.headers["refresh"] = str(_RELOAD_S)
        return response

    async def thumbnail(self, request: Request) -> Response:
        return await self._picture(request, self._pictures.thumbnail, "image/jpeg")

    async def overview(self, request: Request) -> Response:
        return await self._picture(request, self._pictures.overview, "image/jpeg")

    async def overlay(self, request: Request) -> Response:
        return await self._picture(request, self._pictures.overlay, "image/png")

    async def tile(self, request: Request) -> Response:
        level, column, row = (_number(request, name) for name in ("level", "column", "row"))
        return await self._picture(
            request,
            lambda run: self._pictures.tile(run, level, column, row),
            "image/jpeg",
            self._tiles,
        )

    async def classes(self, request: Request) -> Response:
        """Return each tile's class and probability, shown next to the pointer."""
        parameters(request)
        run_id = _number(request, "run")
        rows = await self._drawing.run(lambda: self._classes(run_id))
        return json_answer(rows)

    async def queries(self, request: Request) -> Response:
        parameters(request)
        return self._html("her2d_queries.html", queries=QUERIES, filters=FILTERS, chunk=CHUNK)

    async def csv(self, request: Request) -> Response:
        query = _query(request)
        given = parameters(request, query.parameters)

        async def read(after: int) -> tuple[str, int | None]:
            return await self._download(query, given, after, lambda rows: csv_of(rows.rows))

        first, following = await read(0)

        async def parts() -> AsyncIterator[str]:
            yield csv_of([query.columns])
            yield first
            after = following
            while after is not None and not await request.is_disconnected():
                part, after = await read(after)
                yield part

        return CsvDownload(f"{request.path_params['name']}.csv", parts())

    async def json(self, request: Request) -> Response:
        query = _query(request)
        given = parameters(request, query.parameters | {"after"})
        after = number_of(given, "after", 0, _LARGEST_ID)
        rows, last = await self._download(
            query, given, after, lambda found: json_rows(query, found)
        )
        following = None
        if last is not None:
            following = f"{request.url.path}?{urlencode({**given, 'after': last})}"
        return json_answer({"rows": rows, "next": following})

    async def _download(
        self,
        query: NamedQuery,
        given: dict[str, str],
        after: int,
        convert: Callable[[Rows], Converted],
    ) -> tuple[Converted, int | None]:
        """Return converted rows and the id after which the next ones follow."""

        def work() -> tuple[Converted, int | None]:
            found = self._database.run(lambda db: query.read(db, given, after))
            return convert(found), found.after

        return await self._downloads.run(work)

    async def _problem_of_scan(self, run_id: int) -> tuple[str | None, bool]:
        """Return why the original cannot be shown, or None; and whether it is being compared."""
        try:
            await self._checks.run(
                lambda: self._pictures.require_scan(self._runs.key(run_id), wait_s=_COMPARING_S)
            )
        except ScanMissing as error:
            return str(error), isinstance(error, ScanUnverified)
        except TooBusy:
            return _NO_ANSWER, False
        return None, False

    def _viewer(self, run_id: int, missing: str | None) -> Viewer:
        run = self._runs.read(self._runs.key(run_id))
        pictures: str | None = None
        try:
            self._pictures.overview(run_id)
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
            um_per_px=geometry.level0_um_per_px,
            tile=TILE,
            max_level=ZoomGrid(geometry.width, geometry.height).max_level,
            scan_missing=missing,
            pictures_missing=pictures,
            tiles_pruned=pruned,
        )

    def _classes(self, run_id: int) -> "Sequence[Sequence[object]]":
        tiles = self._runs.read(self._runs.key(run_id)).tiles
        columns = zip(
            tiles.column,
            tiles.row,
            tiles.tile_class,
            tiles.p_strong,
            tiles.tumor_pixels,
            [np.nan] * len(tiles.row) if tiles.attention is None else tiles.attention,
            strict=True,
        )
        return [
            [
                int(column),
                int(row),
                tile_class,
                None if np.isnan(p) else round(float(p), 3),
                int(tumor),
                None if np.isnan(weight) else float(f"{weight:.3g}"),
            ]
            for column, row, tile_class, p, tumor, weight in columns
        ]

    async def _picture(
        self,
        request: Request,
        draw: Callable[[int], bytes],
        content_type: str,
        workers: Workers | None = None,
    ) -> Response:
        parameters(request)
        run_id = _number(request, "run")
        body = await (workers or self._drawing).run(lambda: draw(run_id))
        return picture(request, body, content_type)

    def _html(self, template: str, **context: object) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(context))


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("her2d.browse"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
    )


def _printable(value: object) -> object:
    """Escape what could steer a terminal or reverse text, in everything that a template shows."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _query(request: Request) -> NamedQuery:
    query = QUERIES.get(request.path_params["name"])
    if query is None:
        raise HTTPException(404)
    return query


def _number(request: Request, name: str) -> int:
    """Return a number in the path. Raises NoSuchTile if it is none."""
    text = request.path_params[name]
    if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER):
        raise NoSuchTile("There is no such page.")
    return int(text)
