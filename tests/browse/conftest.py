"""A real server on a free port, over a laboratory of simulated slides; and a headless chromium."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from browse_token import TOKEN
from playwright.sync_api import Browser, sync_playwright
from typer.testing import CliRunner

from her2d.browse.server import build_app, server_config
from her2d.bundle.loading import Bundle
from her2d.cli.app import app

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
        sent = {"authorization": f"Bearer {TOKEN}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(self.url + path, timeout=30, headers=sent)


@pytest.fixture(scope="module")
def site(tmp_path_factory, color_bundle, write_slide_into) -> Iterator[Site]:
    """Three slides that every test may look at and none may change."""
    yield from serve(laboratory(tmp_path_factory.mktemp("site"), color_bundle, write_slide_into))


@pytest.fixture
def own_site(tmp_path, color_bundle, write_slide_into) -> Iterator[Site]:
    """The same slides for one test, to take files away from."""
    yield from serve(laboratory(tmp_path, color_bundle, write_slide_into))


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
    listening = socket.create_server(("127.0.0.1", 0))
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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
