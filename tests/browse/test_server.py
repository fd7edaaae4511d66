"""Responses of the server, also to invalid and hostile requests."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from her2d.cli.app import app
from her2d.db.connection import open_database
from her2d.db.prune import prune_tiles
from her2d.queue.store import JobQueue
from her2d.slides.levels import open_levels
from her2d.system.file_identity import FileState


def picture(response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_the_list_shows_every_slide_and_filters(site):
    everything = site.get("/").text
    assert "positive.tif" in everything
    assert "negative.tif" in everything
    only = site.get("/?status=positive").text
    assert "positive.tif" in only
    assert "negative.tif" not in only
    assert "No slides match." in site.get("/?text=magic").text


def test_files_without_a_result_are_listed_with_their_reason(own_site):
    database = open_database(own_site.folder / "her2d.sqlite")
    jobs = JobQueue(database)
    for name, size in (("<i>bad.tif", 1), ("replaced.tif", 1), ("replaced.tif", 2)):
        jobs.refuse(Path(f"/in/{name}"), FileState(1, size, 1), f"{name} {size}: no tile was read.")
    everything = own_site.get("/").text
    assert "2 files without a result" in everything
    assert "&lt;i&gt;bad.tif 1: no tile was read." in everything
    assert "replaced.tif 2: no tile was read." in everything
    assert "replaced.tif 1: no tile was read." not in everything
    assert "1 file without a result" in own_site.get("/?text=BAD").text
    for filtered in ("/?status=positive", "/?page=2", "/?flag=folded", "/?text=positive"):
        assert "without a result" not in own_site.get(filtered).text


def test_the_cause_of_unreadable_tiles_is_on_the_page_of_their_slide(own_site):
    database = open_database(own_site.folder / "her2d.sqlite")
    database.execute("update runs set tiles_unreadable = 1, unreadable_reason = 'block 7,7 <is>'")
    assert "block 7,7 &lt;is&gt;" in own_site.get("/slides/1").text
    assert "block 7,7 &lt;is&gt;" in own_site.get("/").text


def test_slides_without_a_call_can_be_filtered_by_the_reason(site):
    assert "reason=no-tumor" in site.get("/?status=indeterminate").text
    assert "reason=no-tumor" not in site.get("/").text
    found = site.get("/?reason=no-tumor").text
    assert "benign" in found
    assert "negative.tif" not in found
    assert "No slides match." in site.get("/?reason=unreadable").text


def test_slides_for_ihc_can_be_filtered_and_outcomes_are_shown_beside_the_call(own_site):
    database = open_database(own_site.folder / "her2d.sqlite")
    database.execute("update runs set send_to_ihc = her2_status = 'negative'")
    database.execute(
        "insert into outcomes (slide_id, ihc, fish, imported_at, imported_by, source)"
        " select id, '2+', 'amplified', 't', 'li', 'ihc.csv' from slides"
        " where file_name = 'negative.tif'"
    )
    assert "flag=send-to-ihc" in own_site.get("/").text
    found = own_site.get("/?flag=send-to-ihc").text
    assert "negative.tif" in found
    assert "positive.tif" not in found
    assert 'title="IHC 2+, FISH amplified: positive">IHC 2+' in found
    page = own_site.get("/slides/name:negative.tif").text
    assert "Send to IHC: by this laboratory&#39;s calibration" in page
    assert "IHC 2+, FISH amplified: positive" in page


def test_a_hostile_name_is_only_text(site):
    assert "benign &lt;b&gt;.tif" in site.get("/").text
    assert "<b>.tif" not in site.get("/").text
    assert "<b>.tif" not in site.get("/slides/3").text


@pytest.mark.parametrize(
    "address",
    [
        "/?page=-1",
        "/?page=0",
        "/?page=%D9%A3",
        "/?page=99999999999",
        "/?sort=magic",
        "/?status=';drop",
        "/?flag=%00",
        "/?reason=none",
        "/?text=%00",
        "/?text=%ff",
        "/?text=" + 201 * "a",
        "/?text=a&text=b",
        "/?staus=positive",
        "/?" + "&".join(f"p{number}=1" for number in range(30)),
        "/slides/1?text=a",
        "/slides/%ff",
        "/pictures/1/overlay.png?x=1",
        "/queries/results.csv?status=magic",
        "/queries/results.json?after=-1",
        "/queries/results.json?after=9223372036854775808",
        "/queries/daily_counts.json?after=1",
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused_in_one_sentence(site, address):
    refused = site.get(address)
    assert refused.status_code == 400
    assert refused.text.strip('}"').endswith(".")
    assert len(refused.text) < 300


@pytest.mark.parametrize("address", ["/", "/?text=", "/?text=%25", "/?page=&sort=", "/?page=1"])
def test_an_empty_parameter_is_its_default(site, address):
    assert site.get(address).status_code == 200


@pytest.mark.parametrize(
    "address",
    [
        "/slides/0",
        "/slides/999999999999999",
        "/slides/9999999999999999999999",
        "/slides/../etc/passwd",
        "/slides/1%27",
        "/pictures/99/overlay.png",
        "/pictures/1/tiles/99/0_0.jpg",
        "/pictures/1/tiles/11/9999_0.jpg",
        "/pictures/1/tiles/11/-1_0.jpg",
        "/pictures/1/tiles/999999999999999/0_0.jpg",
        "/pictures/..%2f..%2fetc/overview.jpg",
        "/?page=2",
        "/queries/runs.csv",
        "/queries/results.xml",
        "/her2d-static/../server.py",
        "/her2d-static/%2e%2e/server.py",
    ],
)
def test_what_is_not_there_is_not_found(site, address):
    assert site.get(address).status_code == 404


def test_the_finest_tiles_are_level_0s_own_pixels(site):
    levels = open_levels(site.slides / "positive.tif")
    for column, row in ((0, 0), (3, 2)):
        shown = picture(site.get(f"/pictures/1/tiles/11/{column}_{row}.jpg")).astype(int)
        there = levels.region(0, 512 * column, 512 * row, 512, 512)
        assert np.abs(shown - there).mean() < 2.5


def test_the_coarsest_tile_is_the_whole_slide(site):
    whole = picture(site.get("/pictures/1/tiles/8/0_0.jpg"))
    assert whole.shape == (192, 256, 3)
    assert abs(int(whole[20, 20, 1]) - 102) < 8


def test_many_tiles_at_once_are_all_answered(site):
    addresses = [f"/pictures/1/tiles/11/{c}_{r}.jpg" for c in range(4) for r in range(3)] * 5
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(site.get, addresses))
    assert {answer.status_code for answer in answers} == {200}


def test_the_overlay_is_brown_where_tumour_is_strong_and_clear_elsewhere(site):
    data = np.frombuffer(site.get("/pictures/1/overlay.png").content, np.uint8)
    overlay = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    side = overlay.shape[1] // 4
    strong, glass = overlay[side // 2, side // 2], overlay[side // 2, side * 7 // 2]
    assert strong[2] > strong[1] > strong[0]
    assert strong[3] > 200
    assert glass[3] == 0


@pytest.mark.parametrize("key", ["1", "id:1", "positive.tif", "positive", "barcode:positive"])
def test_a_slides_page_is_found_by_each_of_its_names(site, key):
    assert "<h1>positive.tif</h1>" in site.get(f"/slides/{key}").text


def test_a_slides_name_may_have_any_character(site):
    assert "benign &lt;b&gt;.tif" in site.get("/slides/benign%20%3Cb%3E.tif").text


def test_a_key_that_means_several_slides_is_refused_with_them(own_site, write_slide_into):
    path = write_slide_into(own_site.slides, ["wS"], "1.tif")
    config = own_site.folder / "config.toml"
    assert CliRunner().invoke(app, ["scan", str(path), "--config", str(config)]).exit_code == 0
    refused = own_site.get("/slides/1")
    assert refused.status_code == 409
    assert "positive.tif (slide 1, by its id); 1.tif (slide 4, by its barcode)" in refused.text
    assert "<h1>positive.tif</h1>" in own_site.get("/slides/id:1").text
    assert 'href="/slides/id:1"' in own_site.get("/").text


def test_a_missing_original_leaves_the_small_picture_and_a_clear_sentence(own_site):
    (own_site.slides / "positive.tif").unlink()
    page = own_site.get("/slides/1").text
    assert "The original scan cannot be found at" in page
    assert "The picture shown is the small one" in page
    assert own_site.get("/pictures/1/tiles/11/0_0.jpg").status_code == 404
    assert picture(own_site.get("/pictures/1/overview.jpg")).shape[1] == 4 * 256


def test_missing_pictures_are_reported(own_site):
    for file in (own_site.folder / "heatmaps").iterdir():
        file.unlink()
    page = own_site.get("/slides/1").text
    assert "slide.jpg cannot be read" in page
    assert own_site.get("/pictures/1/thumbnail.jpg").status_code == 404
    assert own_site.get("/pictures/1/tiles/11/0_0.jpg").status_code == 200


def test_a_slide_whose_tile_rows_were_deleted_says_so_and_shows_its_stored_pictures(own_site):
    with closing(open_database(own_site.folder / "her2d.sqlite")) as db:
        run_id, slide_id = db.execute("select run_id, slide_id from slide_results").fetchone()
        assert prune_tiles(db, keep_days=0).runs > 0
    assert "were deleted on" in own_site.get(f"/slides/{slide_id}").text
    for absent in ("overlay.png", "tiles.json"):
        found = own_site.get(f"/pictures/{run_id}/{absent}")
        assert found.status_code == 404
        assert "were deleted on" in found.text
    for kept in ("thumbnail.jpg", "overview.jpg"):
        assert own_site.get(f"/pictures/{run_id}/{kept}").status_code == 200
