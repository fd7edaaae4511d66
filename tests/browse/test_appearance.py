"""How the pages look and read: on phones, in the dark, to screen readers, and their scale bar."""

import re
import time
from contextlib import closing
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browse_client import BEARER
from typer.testing import CliRunner
from viewer_canvas import drawn

from her2d.cli.app import app
from her2d.db.connection import open_database
from her2d.queue.store import JobQueue
from her2d.system.file_identity import FileState

pytestmark = pytest.mark.slow

PHONE, LAPTOP = {"width": 390, "height": 844}, {"width": 1366, "height": 768}
ADDRESSES = ("/", "/?status=indeterminate", "/?text=magic", "/slides/id:1", "/slides/id:3")
UM_PER_PX = 2.5  # as the slides of these tests state


@pytest.fixture
def opened(chromium):
    """Open a page in a window of a size and theme; what went wrong in it is empty at the end."""
    contexts, wrong = [], []

    def opened(url, size=LAPTOP, theme="light", **options):
        contexts.append(
            chromium.new_context(
                viewport=size, color_scheme=theme, extra_http_headers=BEARER, **options
            )
        )
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(url)
        if "/slides/" in url:
            page.wait_for_selector("body[data-ready=all][data-tiles]")
        page.wait_for_load_state("networkidle")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, LAPTOP], ids=["phone", "laptop"])
def test_axe_finds_nothing_that_hinders_anybody(opened, own_site, size, theme):
    """Names, roles, landmarks, headings and contrast, as axe-core checks them."""
    with closing(open_database(own_site.folder / "her2d.sqlite")) as db:
        db.execute(
            "update runs set borderline = 1, tiles_unreadable = 1,"
            " unreadable_reason = 'block 7,7: truncated', scale_remark = 'Check the scale.'"
        )
        JobQueue(db).refuse(Path("/in/bad.tif"), FileState(1, 1, 1), "bad.tif is not a TIFF file.")
    for address in ADDRESSES:
        found = Axe().run(opened(own_site.url + address, size, theme)).response
        assert [(each["id"], each["nodes"]) for each in found["violations"]] == [], address


@pytest.mark.parametrize("size", [PHONE, LAPTOP], ids=["phone", "laptop"])
def test_axe_finds_nothing_in_a_report_that_hinders_anybody(opened, site, tmp_path, size):
    report = tmp_path / "report.html"
    config = ["--config", str(site.folder / "config.toml")]
    words = ["export", "positive.tif", "--format", "html", "-o", str(report), *config]
    assert CliRunner().invoke(app, words).exit_code == 0
    page = opened(report.as_uri(), size)
    assert [each["id"] for each in Axe().run(page).response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_axe_would_find_text_of_low_contrast_and_a_picture_without_a_name(opened, site):
    page = opened(f"{site.url}/")
    page.evaluate(
        """() => {
            document.querySelector(".count").style.color = "#ccc";
            document.querySelector(".card img").removeAttribute("alt");
        }"""
    )
    found = {each["id"] for each in Axe().run(page).response["violations"]}
    assert found >= {"color-contrast", "image-alt"}


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_page_has_a_language_a_title_one_heading_and_landmarks(opened, site, address):
    page = opened(site.url + address)
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.title().endswith("her2d")
    for role in ("banner", "main"):
        assert page.get_by_role(role).count() == 1, role
    assert page.get_by_role("heading", level=1).count() == 1
    names = [nav.get_attribute("aria-label") for nav in page.get_by_role("navigation").all()]
    assert names
    assert all(names)
    assert len(set(names)) == len(names)


def test_controls_tables_and_pictures_have_names(opened, site):
    page = opened(f"{site.url}/slides/id:1")
    assert page.get_by_role("slider", name="Opacity of the heatmap").count() == 1
    for name in ("previous HER2-high region", "next HER2-high region"):
        assert page.get_by_role("button", name=name).count() == 1
    assert page.get_by_role("application", name=re.compile("^The slide. Arrow keys pan")).count()
    for name in ("Tiles", "Quality of the scan", "Runs"):
        table = page.get_by_role("table", name=name)
        assert table.count() == 1
        headers = table.locator("th")
        assert headers.count() > 0
        assert all(header.get_attribute("scope") for header in headers.all())
    gauge = page.get_by_role("img", name=re.compile("of the tumour is HER2-high")).first
    assert gauge.get_attribute("aria-label").startswith("60.0 % of the tumour is HER2-high, 95 %")
    listed = opened(f"{site.url}/")
    alternatives = {picture.get_attribute("alt") for picture in listed.locator("img").all()}
    assert alternatives == {
        f"{name} with its heatmap" for name in ("positive.tif", "negative.tif", "benign <b>.tif")
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_focus_is_visible_wherever_the_tab_key_leads(opened, site, theme):
    for address in ("/", "/slides/id:1"):
        page = opened(site.url + address, theme=theme)
        seen = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            name, outline, ring = page.evaluate(
                """() => {
                    const at = document.activeElement, style = getComputedStyle(at);
                    return [at.outerHTML.slice(0, 80), style.outlineStyle,
                        getComputedStyle(at, "::after").boxShadow];
                }"""
            )
            if name.startswith("<body"):
                continue  # after the last one, before the first
            assert outline != "none" or ring != "none", name
            seen.add(name)
        assert len(seen) > 4


def test_arrow_keys_pan_the_slide_at_once(opened, site):
    page = opened(f"{site.url}/slides/id:1")
    page.keyboard.press("+")
    page.wait_for_timeout(900)
    before = page.evaluate("viewer.viewport.getCenter(true).x")
    page.keyboard.down("ArrowRight")
    page.wait_for_timeout(900)
    page.keyboard.up("ArrowRight")
    assert page.evaluate("viewer.viewport.getCenter(true).x") > before


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_everything_without_scrolling_sideways(opened, site, address, width):
    size = {"width": width, "height": 844}
    page = opened(site.url + address, size, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sideways = page.evaluate(
        """() => [...document.querySelectorAll("header *, .panel *, main > *")]
            .filter((each) => !each.closest(".skip, .unseen, svg")
                && each.getBoundingClientRect().right > innerWidth + 1)
            .map((each) => each.outerHTML.slice(0, 80))"""
    )
    assert sideways == []
    if "/slides/" in address:
        viewer = page.locator("#viewer").bounding_box()
        assert viewer["width"] == width
        assert 300 < viewer["height"] < 600  # below it, there is room to scroll the page by
        page.locator("#runs").scroll_into_view_if_needed()
        assert page.locator("#runs").is_visible()


def colour(page, selector: str, name: str) -> list[int]:
    style = page.evaluate(
        "([selector, name]) => getComputedStyle(document.querySelector(selector))[name]",
        [selector, name],
    )
    return [int(number) for number in re.findall(r"\d+", style)[:3]]


def test_dark_pages_are_dark_and_the_heatmaps_colours_stay_true(opened, site):
    light, dark = (opened(f"{site.url}/slides/id:1", theme=theme) for theme in ("light", "dark"))
    assert min(colour(light, "body", "backgroundColor")) > 200
    assert max(colour(dark, "body", "backgroundColor")) < 60
    assert min(colour(dark, "body", "color")) > 200
    for place in ((0.125, 1 / 6), (0.6, 0.1), (0.3, 0.5)):
        assert drawn(light, *place) == drawn(dark, *place)
    for key in (".legend .high", ".legend .other"):
        assert colour(light, key, "backgroundColor") == colour(dark, key, "backgroundColor")
    filters = dark.evaluate(
        """() => [...document.querySelectorAll("#viewer, #viewer *, img")]
            .map((each) => { const style = getComputedStyle(each);
                return style.filter + style.mixBlendMode; })"""
    )
    assert set(filters) == {"nonenormal"}


def scale(page) -> tuple[float, float]:
    """The length that the bar states, and that it has on the slide, in micrometres."""
    text, width, um_per_screen_px = page.evaluate(
        """(umPerPx) => {
            const [left, right] = [0, 1].map((x) =>
                viewer.viewport.pixelFromPoint(new OpenSeadragon.Point(x, 0), true).x);
            return [document.querySelector("#scale span").textContent,
                document.querySelector("#scale i").getBoundingClientRect().width,
                run.width * umPerPx / (right - left)];
        }""",
        UM_PER_PX,
    )
    number, unit = text.split(" ")
    return float(number) * {"µm": 1, "mm": 1000}[unit], width * um_per_screen_px


@pytest.mark.parametrize("size", [PHONE, LAPTOP], ids=["phone", "laptop"])
def test_the_scale_bar_lies_in_the_viewer_and_is_right_at_every_zoom(opened, site, size):
    page = opened(f"{site.url}/slides/id:1", size)
    stated = set()
    for zoom in (0.7, 1, 1.7, 3, 7, 20, 55):
        page.evaluate("(zoom) => viewer.viewport.zoomTo(zoom, null, true)", zoom)
        page.wait_for_timeout(300)
        says, has = scale(page)
        assert has == pytest.approx(says, rel=0.01), zoom
        stated.add(says)
        bar, viewer = (page.locator(name).bounding_box() for name in ("#scale", "#viewer"))
        assert viewer["x"] <= bar["x"]
        assert bar["x"] + bar["width"] <= viewer["x"] + viewer["width"]
        assert viewer["y"] <= bar["y"]
        assert bar["y"] + bar["height"] <= viewer["y"] + viewer["height"]
        assert page.locator("#viewer #scale").get_attribute("aria-label").startswith("Scale bar: ")
    assert len(stated) >= 4
    page.set_viewport_size({"width": 700, "height": 900})
    page.wait_for_timeout(600)
    says, has = scale(page)
    assert has == pytest.approx(says, rel=0.01)


def test_a_scan_that_states_no_scale_has_no_bar_and_the_page_says_so(opened, own_site):
    with closing(open_database(own_site.folder / "her2d.sqlite")) as db:
        db.execute("update slides set mpp = null")
    page = opened(f"{own_site.url}/slides/id:1")
    page.keyboard.press("+")
    page.wait_for_timeout(900)
    assert page.locator("#scale").is_hidden()
    said = "No scale bar: the file does not state how large a pixel is."
    assert page.locator("#no-scale").inner_text() == said


def test_pages_show_local_time_with_its_zone(opened, own_site, monkeypatch):
    with closing(open_database(own_site.folder / "her2d.sqlite")) as db:
        db.execute("update runs set finished_at = '2026-11-28T23:30:00.000000Z'")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        for address in ("/", "/slides/id:1"):
            stamps = opened(own_site.url + address).locator("time").all()
            assert stamps
            for stamp in stamps:
                assert stamp.inner_text() == "2026-11-29 00:30 +01:00"
                assert stamp.get_attribute("datetime") == "2026-11-28T23:30:00.000000Z"
    finally:
        monkeypatch.undo()
        time.tzset()
