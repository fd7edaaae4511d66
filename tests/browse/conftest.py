"""A real server on a free port, over a laboratory of simulated slides; and a headless chromium."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from browse_client import BEARER, TOKEN, get
from mil_bundles import write_mil_bundle
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from typer.testing import CliRunner

from her2d.browse.server import build_app, server_config
from her2d.bundle.loading import Bundle
from her2d.cli.app import app
from her2d.db.connection import open_database
from her2d.slides.formats.parts import scan_stamp

PATHS = [
    ("slides", "path"),
    ("runs", "heatmap_path"),
    ("run_pictures", "slide_path"),
    ("run_pictures", "tumor_path"),
]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Site:
    """A served laboratory: `slides` is where its scans lie."""

    url: str
    folder: Path
    slides: Path

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Get an address as a program that has the token; `sec_fetch_site` is Sec-Fetch-Site."""
        sent = dict(BEARER)
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return get(self.url + path, sent)


@pytest.fixture(scope="session")
def scanned(tmp_path_factory, color_bundle, write_slide_into) -> Path:
    """The folder of a laboratory with three scored slides."""
    return laboratory(tmp_path_factory.mktemp("site"), color_bundle, write_slide_into)


@pytest.fixture(scope="module")
def site(scanned) -> Iterator[Site]:
    """Three slides that every test may look at and none may change."""
    yield from serve(scanned)


@pytest.fixture(scope="module")
def weighed_site(tmp_path_factory, color_bundle, write_slide_into) -> Iterator[Site]:
    """The same slides, scored by a bundle that calls each as a whole, by attention."""
    folder = tmp_path_factory.mktemp("weighed")
    bundle = write_mil_bundle(color_bundle, folder / "attention")
    yield from serve(laboratory(folder, bundle, write_slide_into))


@pytest.fixture
def own_site(scanned, tmp_path) -> Iterator[Site]:
    """The same slides for one test, to take files away from."""
    yield from serve(copy_of(scanned, tmp_path / "copy"))


@pytest.fixture
def own_laboratory(scanned, tmp_path) -> Path:
    """The folder of the same slides, not served."""
    return copy_of(scanned, tmp_path / "copy")


def copy_of(laboratory: Path, folder: Path) -> Path:
    """Return a copy of a laboratory, as if it had been scanned there."""
    shutil.copytree(laboratory, folder)
    with closing(open_database(folder / "her2d.sqlite")) as db, db.atomic():
        for table, column in PATHS:
            db.execute(
                f"update {table} set {column} = replace({column}, ?, ?)",
                [f"{laboratory}/", f"{folder}/"],
            )
        for row in list(db.query("select id, path from slides")):
            stamp = scan_stamp(Path(row["path"]))
            db.table("slides").update(row["id"], asdict(stamp))
    return folder


def laboratory(folder: Path, bundle: Bundle, write: Callable[..., Path]) -> Path:
    slides = folder / "slides"
    slides.mkdir()
    paths = [
        write(slides, ["SSw.", "ws..", "..sS"], "positive.tif"),
        write(slides, ["www", "wsw"], "negative.tif"),
        write(slides, ["ss"], "benign <b>.tif"),
    ]
    config = folder / "config.toml"
    config.write_text(
        f'[bundle]\npath = "{bundle.directory}"\n[inference]\nthreads = 1\n'
        "[pipeline]\nslides_in_flight = 1\n"
    )
    done = CliRunner().invoke(app, ["scan", *map(str, paths), "--config", str(config)])
    assert done.exit_code == 0, done.output
    return folder


def serve(folder: Path) -> Iterator[Site]:
    server = uvicorn.Server(server_config(build_app(folder / "her2d.sqlite", TOKEN)))
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.started
    try:
        yield Site(f"http://127.0.0.1:{port}", folder, folder / "slides")
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@dataclass(frozen=True)
class Chromium:
    """A browser whose windows have the token, unless they say otherwise."""

    browser: Browser

    def new_context(self, **options: object) -> BrowserContext:
        return self.browser.new_context(**{"extra_http_headers": BEARER, **options})


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield Chromium(browser)
        browser.close()
