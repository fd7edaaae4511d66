"""The pages in headless chromium, as a newcomer uses them."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browse_client import TOKEN
from viewer_canvas import drawn

pytestmark = pytest.mark.slow

SIZES = [(3840, 2160), (1366, 768)]


@pytest.fixture(params=SIZES, ids=["4k", "laptop"])
def page(chromium, request):
    width, height = request.param
    context = chromium.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.asked = []
    page.wrong = []
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on(
        "console",
        lambda message: page.wrong.append(message.text) if message.type == "error" else None,
    )
    yield page
    context.close()


def open_slide_page(page, site, slide_id=1, ready="all"):
    page.goto(f"{site.url}/slides/{slide_id}")
    page.wait_for_selector(f"body[data-ready={ready}][data-tiles]")


def test_nothing_is_ever_requested_from_another_host(page, site):
    page.goto(site.url)
    page.wait_for_load_state("networkidle")
    open_slide_page(page, site)
    page.keyboard.press("+")
    page.wait_for_timeout(800)
    assert any("/tiles/" in url for url in page.asked)
    assert any("overlay.png" in url for url in page.asked)
    assert [url for url in page.asked if not url.startswith((site.url, "data:", "blob:"))] == []
    assert page.wrong == []


def test_the_list_shows_which_slides_are_positive_and_how_near_the_threshold(page, site):
    page.goto(site.url)
    card = page.locator("a.card.positive")
    assert card.count() == 1
    assert "positive.tif" in card.inner_text()
    assert "60.0 %" in card.inner_text()
    line = card.locator(".threshold").bounding_box()
    value = card.locator(".value").bounding_box()
    assert value["x"] > line["x"]


def test_a_slide_is_found_and_opened_by_keyboard_alone(page, site):
    page.goto(site.url)
    page.keyboard.press("/")
    page.keyboard.type("positive")
    page.keyboard.press("Enter")
    page.wait_for_url("**text=positive**")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**/slides/id:1")
    page.keyboard.press("Escape")
    page.wait_for_url(f"{site.url}/")


def test_the_heatmap_lies_over_the_slide_and_fades(page, site):
    open_slide_page(page, site)
    with_heatmap = drawn(page, 0.125, 1 / 6)[:3]
    assert with_heatmap[0] > with_heatmap[2]
    page.keyboard.press("h")
    assert page.locator("#opacity").input_value() == "0"
    assert drawn(page, 0.125, 1 / 6)[:3] == pytest.approx([97, 102, 162], abs=6)
    page.keyboard.press("]")
    assert page.locator("#opacity-value").inner_text() == "10 %"


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (0.1, 0.1, "HER2-high tumour\np(strong)"),
        (0.6, 0.1, "other tumour"),
        (0.3, 0.5, "tissue without tumour"),
    ],
)
def test_the_pointer_shows_a_tiles_class(page, site, x, y, words):
    open_slide_page(page, site)
    point = page.evaluate(
        """([x, y]) => {
            const at = viewer.viewport.pixelFromPoint(
                new OpenSeadragon.Point(x, y * run.height / run.width), true);
            return [at.x, at.y];
        }""",
        [x, y],
    )
    page.mouse.move(*point)
    page.wait_for_selector("#tip:not([hidden])")
    assert words in page.locator("#tip").inner_text()
    assert page.locator(".tile-outline").count() == 1


def test_the_regions_that_drove_the_result_are_a_key_away(page, site):
    open_slide_page(page, site)
    assert page.locator("#region").inner_text() == "2 HER2-high regions"
    page.keyboard.press(".")
    page.wait_for_timeout(900)
    assert page.locator("#region").inner_text() == "region 1 of 2: 2 tiles"
    center = page.evaluate(
        "(() => { const c = viewer.viewport.getCenter(); return [c.x, c.y]; })()"
    )
    assert center == pytest.approx([0.25, 0.125], abs=0.13)


def test_a_slide_whose_original_is_gone_still_shows_where(page, own_site):
    (own_site.slides / "positive.tif").unlink()
    open_slide_page(page, own_site)
    assert "The original scan cannot be found at" in page.locator(".notice").inner_text()
    color = drawn(page, 0.125, 1 / 6)[:3]
    assert color[0] > color[2]
    assert page.wrong == []


def test_nothing_is_cut_off_or_scrolls_sideways(page, site):
    for address in ("/", "/slides/1", "/slides/3"):
        page.goto(site.url + address)
        page.wait_for_load_state("networkidle")
        widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1]


def test_the_printed_address_is_enough_and_the_token_does_not_stay_in_it(chromium, site):
    context = chromium.new_context(extra_http_headers={})
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append((request.url, request.headers)))
    assert page.goto(site.url).status == 401
    page.goto(f"{site.url}/?token={TOKEN}")
    assert page.url == f"{site.url}/"
    page.click("a.card.positive")
    page.wait_for_selector("body[data-ready=all][data-tiles]")
    assert page.evaluate("document.cookie") == ""
    page.go_back()
    assert page.url == f"{site.url}/"
    assert [url for url, headers in asked if TOKEN in headers.get("referer", "")] == []
    assert sum(TOKEN in url for url, _ in asked) == 1
    context.close()


@pytest.fixture
def other_port(tmp_path):
    """Another program of this machine, which is the same site for cookies, but another origin."""
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_page_of_another_port_makes_nothing_compute(chromium, site, other_port):
    folder, other = other_port
    thumbnail, search = f"{site.url}/pictures/1/thumbnail.jpg", f"{site.url}/?text=a"
    (folder / "page.html").write_text(
        f"<img src='{thumbnail}'><iframe src='{site.url}'></iframe><script src='{search}'></script>"
        f"<script>fetch('{search}', {{mode: 'no-cors', credentials: 'include'}})</script>"
        f"<a href='{search}'>search</a>"
    )
    context = chromium.new_context(extra_http_headers={})
    page, answers = context.new_page(), []
    page.goto(f"{site.url}/?token={TOKEN}", wait_until="networkidle")
    page.on("response", lambda response: answers.append((response.url, response.status)))
    page.goto(f"{other}/page.html")
    page.wait_for_load_state("networkidle")
    page.click("a")
    page.get_by_text("opened by a page of another site").wait_for()
    seen = {url: status for url, status in answers if url.startswith(site.url)}
    seen.setdefault(thumbnail, 403)  # chromium tells of no answer that it keeps from the page
    assert seen == {thumbnail: 403, search: 403, f"{site.url}/": 403}
    page.click("a")
    assert "No slides match" not in page.locator("main").inner_text()
    assert page.url == search
    context.close()
