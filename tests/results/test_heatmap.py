"""The heatmap, the slide with its HER2-high tumour in brown."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from her2d.results.heatmap import (
    HeatmapData,
    render_heatmap,
    shortened,
    text_width,
    tint_of,
    write_png,
)

PX = 64


@pytest.fixture
def data():
    """Two rows of three tiles: weak, strong and no tumour above, none below."""
    rgb = np.full((2 * PX, 3 * PX, 3), 230, np.uint8)
    tumor = np.zeros((2 * PX, 3 * PX), np.uint8)
    tumor[:PX, : 2 * PX] = 255
    p = np.full((2, 3), np.nan, np.float32)
    p[0, :2] = (0.2, 0.95)
    nothing = np.zeros((2, 3), bool)
    strong = nothing.copy()
    strong[0, 1] = True
    return HeatmapData(
        rgb, tumor, PX, p, strong, nothing, 20.0, 3 * PX, 2 * PX, "a.tif: HER2 positive", "50 %"
    )


def at(page, data, row, column):
    """Return the colour in the middle of a tile."""
    scale = 1600 / max(data.width, data.height)
    x = 40 + round((column + 0.5) * PX * scale)
    y = 120 + round((row + 0.5) * PX * scale)
    return page[y, x].astype(int)


def test_strong_tumor_is_brown_weak_tumor_is_not_and_the_rest_is_the_slide(data):
    page = render_heatmap(data)
    red, green, blue = at(page, data, 0, 1)
    assert red > green > blue
    assert red - blue > 60
    weak = at(page, data, 0, 0)
    assert weak[2] >= weak[0]
    assert at(page, data, 1, 2) == pytest.approx([230] * 3, abs=1)


def test_a_higher_probability_is_darker(data):
    unsure = replace(data, p_strong=np.where(data.strong, 0.55, data.p_strong).astype(np.float32))
    assert at(render_heatmap(data), data, 0, 1).sum() < at(render_heatmap(unsure), data, 0, 1).sum()


@pytest.mark.parametrize("tiles", [1, 25, 26, 29, 599])
def test_tiles_that_attention_weighs_alike_are_all_brown(data, tiles):
    equal = np.full((1, tiles), 1 / tiles, np.float32)
    weighed = replace(data, tile_px=1, attention=equal)
    assert tint_of(weighed).high.all()


def test_a_probability_that_was_not_computed_has_a_shade_between(data):
    shades = [
        at(render_heatmap(replace(data, p_strong=np.full_like(data.p_strong, p))), data, 0, 1).sum()
        for p in (0.99, np.nan, 0.51)
    ]
    assert shades == sorted(shades)
    assert len(set(shades)) == 3


def test_unreadable_tiles_are_hatched(data):
    unreadable = np.zeros((2, 3), bool)
    unreadable[1, 2] = True
    page = render_heatmap(replace(data, unreadable=unreadable))
    part = page[120 + 540 : 120 + 1060, 40 + 1070 : 40 + 1590].astype(int)
    assert ((part[..., 0] - part[..., 1]) > 80).mean() > 0.03


def test_padding_beyond_the_slide_is_cut_off(data):
    narrow = replace(data, width=2 * PX, height=PX)
    page = render_heatmap(narrow)
    assert page.shape[:2] == (120 + 800 + 110, 1600 + 80)


def test_a_tiny_slide_has_room_for_its_legend(data):
    tall = replace(data, width=10, height=2 * PX)
    page = render_heatmap(tall)
    assert page.shape[1] == 1080


def test_a_png_reads_back_and_leaves_no_partial_file(data, tmp_path):
    page = render_heatmap(data)
    path = tmp_path / "heat" / "a.png"
    write_png(path, page)
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], page)
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_a_png_that_cannot_be_written_is_an_os_error(data, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        write_png(tmp_path / "file" / "a.png", render_heatmap(data))


def title_of(data, title):
    """Return where the title is inked, bool (120, width)."""
    page = render_heatmap(replace(data, title=title, subtitle=""))
    return page[:70].min(axis=-1) < 128


def test_chinese_names_are_drawn(data):
    assert cv2.FontFace("uni").getName() == "uni"
    beijing, shanghai = (title_of(data, f"{name}.tif") for name in ("北京", "上海"))
    unknown = title_of(data, "??.tif")
    assert not np.array_equal(beijing, shanghai)
    assert not np.array_equal(beijing, unknown)


def test_without_a_font_for_them_characters_are_drawn_as_escapes(data, monkeypatch):
    escaped = title_of(data, r"\u5317\u4eac.tif")
    monkeypatch.setattr("her2d.results.heatmap._draws_chinese", lambda: False)
    assert np.array_equal(title_of(data, "北京.tif"), escaped)


def test_no_character_of_a_name_turns_the_title_round(data):
    turned, escaped = title_of(data, "\u202egnp.tif"), title_of(data, r"\u202egnp.tif")
    assert np.array_equal(turned, escaped)


@pytest.mark.parametrize("letter", ["n", "京"])
def test_of_a_name_that_is_too_long_the_end_and_the_status_stay(data, letter):
    title = f"{letter * 200}_rescan.tif: HER2 positive"
    found = shortened(title, 32, 1600, weight=600)
    assert text_width(found, 32, weight=600) <= 1600
    assert text_width(f"{letter}{found}", 32, weight=600) > 1600
    assert found.startswith(letter)
    assert found.endswith("_rescan.tif: HER2 positive")
    assert "…" in found
    assert title_of(data, title)[:, -40:].sum() == 0
