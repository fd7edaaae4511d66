"""H&E is told from every other stain, on real and simulated tissue."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from real_slides import CMU
from skimage.data import immunohistochemistry

from her2d.bundle.manifest import HeStain
from her2d.pipeline.quality import QualityLimits, QualityTally, measure_tile
from her2d.pipeline.slide_quality import SlideQuality
from her2d.pipeline.stains import (
    SlideStain,
    StainTally,
    degrees_between,
    find_stain_problem,
    measure_colours,
)
from her2d.simulator import render
from her2d.simulator.plan import Artefacts, plan_slide
from her2d.simulator.stain import Stain
from her2d.slides.grid import Tile
from her2d.slides.reader import open_slide

TILE = 512
TILE_MM2 = (TILE * 0.0025) ** 2
LIMITS = QualityLimits()
GLASS = np.full((TILE, TILE, 3), 245, np.uint8)
CLEAN = Artefacts()

# Ruifrok and Johnston (2001), and the tables of ImageJ's plug-in for colour deconvolution.
HEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.10, 0.93, 0.34)
DAB = (0.27, 0.57, 0.78)
ALCIAN_BLUE = (0.875, 0.458, 0.158)
METHYLENE_BLUE = (0.835, 0.514, 0.196)
ANILINE_BLUE = (0.853, 0.509, 0.113)
AZOCARMINE = (0.071, 0.978, 0.198)
FAST_BLUE = (0.749, 0.606, 0.267)
METHYL_BLUE = (0.799, 0.591, 0.105)
PONCEAU = (0.100, 0.737, 0.668)
ORANGE_G = (0.107, 0.368, 0.924)
LIGHT_GREEN = (0.947, 0.254, 0.197)
AEC = (0.274, 0.679, 0.680)

Picture = NDArray[np.uint8]
Dye = tuple[float, float, float]


@functools.cache
def tissue(
    seed: int,
    *,
    status: str = "positive",
    dyes: tuple[Dye, Dye] | None = None,
    ihc: bool = False,
    artefacts: Artefacts = CLEAN,
) -> tuple[Picture, ...]:
    """The tiles of a small simulated slide, whose dyes can be replaced by others."""
    plan = plan_slide(
        "stains", seed, her2_status=status, width=2 * TILE, height=2 * TILE, artefacts=artefacts
    )
    with pytest.MonkeyPatch.context() as patch:
        if dyes is not None:
            stain = Stain(np.array(dyes[0], np.float32), np.array(dyes[1], np.float32))
            patch.setattr(render, "stain_of", lambda *_: stain)
        boxes = [(TILE * column, TILE * row, TILE, TILE) for row in (0, 1) for column in (0, 1)]
        if ihc:
            return tuple(render.render_ihc_region(plan, *box) for box in boxes)
        return tuple(render.render_region(plan, *box).rgb for box in boxes)


def measured(tiles, *, he: HeStain | None = None, tumor_mm2: float = 0.5) -> SlideQuality:
    limits = replace(LIMITS, he=he or HeStain())
    tally = QualityTally()
    for tile in tiles:
        tally.add(measure_tile(tile, limits), limits)
    return tally.finish(limits, tile_mm2=TILE_MM2, slide_mm2=100.0, tumor_mm2=tumor_mm2)


def stain(tiles) -> SlideStain:
    tally = StainTally()
    for tile in tiles:
        tally.add(measure_tile(tile, QualityLimits()).colours)
    return tally.finish(tile_mm2=TILE_MM2)


def problem(tiles, **given) -> str | None:
    return measured(tiles, **given).stain_problem


def lit(tiles, light: tuple[float, float, float]) -> list[Picture]:
    """The tiles under a lamp of another colour, or on tinted glass."""
    return [(tile * np.array(light)).astype(np.uint8) for tile in tiles]


def pieces(picture: Picture) -> list[Picture]:
    """Tiles of a picture, padded with white."""
    height, width = (-(-side // TILE) * TILE for side in picture.shape[:2])
    whole = np.full((height, width, 3), 255, np.uint8)
    whole[: picture.shape[0], : picture.shape[1]] = picture
    return [
        whole[y : y + TILE, x : x + TILE]
        for y in range(0, height, TILE)
        for x in range(0, width, TILE)
    ]


# H&E passes


@pytest.mark.parametrize("status", ["positive", "negative", "indeterminate"])
@pytest.mark.parametrize("seed", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_simulated_he_passes_whatever_its_hue_and_strength(seed, status):
    found = measured(tissue(seed, status=status))
    assert found.stain_problem is None
    assert found.pink_percent > 40
    assert found.foreign_percent < 1


@pytest.mark.parametrize(
    "dyes",
    [
        (HEMATOXYLIN, (0.07, 0.99, 0.11)),
        ((0.563, 0.720, 0.406), (0.216, 0.801, 0.558)),
        ((0.490, 0.769, 0.410), (0.046, 0.842, 0.537)),
        ((0.325, 0.35, 0.145), (0.05, 0.465, 0.17)),
        ((1.17, 1.26, 0.52), (0.18, 1.67, 0.61)),
        (HEMATOXYLIN, (0.05, 0.47, 0.17)),
    ],
    ids=["Ruifrok", "Macenko", "ImageJ", "pale", "strong", "half the eosin"],
)
def test_he_of_other_laboratories_passes(dyes):
    assert problem(tissue(2, dyes=dyes)) is None


def test_a_real_he_scan_passes():
    with open_slide(CMU) as slide:
        tiles = [tile.pixels for tile in slide.tiles(workers=1) if isinstance(tile, Tile)]
    found = measured(tiles)
    assert found.stain_problem is None
    assert found.pink_percent > 60
    assert found.foreign_percent < 5


@pytest.mark.parametrize(
    "light",
    [(0.86, 0.86, 0.86), (0.95, 0.93, 0.87), (0.9, 0.93, 0.96)],
    ids=["dark", "warm", "cold"],
)
def test_the_colour_of_glass_and_lamp_does_not_matter(light):
    he, ihc = tissue(2), tissue(2, ihc=True, status="negative")
    assert problem(lit(he, light)) is None
    assert problem(lit(ihc, light)) is not None
    found, before = measured(lit(he, light)), measured(he)
    assert found.pink_percent == pytest.approx(before.pink_percent, abs=5)
    assert found.foreign_percent == pytest.approx(before.foreign_percent, abs=1)


@pytest.mark.parametrize("seed", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_pen_marks_folds_blur_and_dust_do_not_make_another_stain_of_he(seed):
    spoiled = Artefacts(folds=2, pen_marks=2, blur_patches=3, dust=30)
    found = measured(tissue(seed, artefacts=spoiled))
    assert found.stain_problem is None
    assert found.ink_percent > 1


# Immunohistochemistry does not


@pytest.mark.parametrize(
    "seed", [0, 3, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 12))]
)
def test_ihc_of_a_positive_slide_is_brown(seed):
    found = measured(tissue(seed, ihc=True, status="positive"))
    assert found.stain_problem == (
        f"The slide is not stained with H&E: {found.brown_percent:.0f} % of its tissue is brown,"
        " as in immunohistochemistry."
    )
    assert found.brown_percent > 15


@pytest.mark.parametrize("status", ["negative", "indeterminate"])
@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 12))]
)
def test_ihc_without_a_reaction_lacks_the_pink_of_eosin(seed, status):
    found = measured(tissue(seed, ihc=True, status=status))
    assert found.stain_problem == (
        "The slide is not stained with H&E: 0.0 % of its tissue is pink, and with eosin it is at"
        " least 20 %."
    )


def test_real_ihc_is_brown():
    picture = immunohistochemistry()
    found = measured(pieces(picture))
    assert found.stain_problem.endswith("is brown, as in immunohistochemistry.")
    assert found.brown_percent > 50
    assert found.pink_percent < 2


# Nor do other stains


def trichrome(seed: int) -> list[Picture]:
    """Blue collagen and red cells, with dark nuclei."""
    black = (0.60, 0.60, 0.50)
    plan = plan_slide("stains", seed, her2_status="positive", width=2 * TILE, height=2 * TILE)
    blue, red = tissue(seed, dyes=(black, METHYL_BLUE)), tissue(seed, dyes=(black, PONCEAU))
    boxes = [(TILE * column, TILE * row, TILE, TILE) for row in (0, 1) for column in (0, 1)]
    cells = [render.render_region(plan, *box).tumor for box in boxes]
    return [
        np.where(mask[..., None], of_cells, of_collagen)
        for mask, of_cells, of_collagen in zip(cells, red, blue, strict=True)
    ]


@pytest.mark.parametrize(
    "dyes",
    [
        (METHYLENE_BLUE, EOSIN),
        (HEMATOXYLIN, ALCIAN_BLUE),
        (ANILINE_BLUE, AZOCARMINE),
        (HEMATOXYLIN, FAST_BLUE),
        (HEMATOXYLIN, ORANGE_G),
        (HEMATOXYLIN, LIGHT_GREEN),
        (HEMATOXYLIN, DAB),
        ((0.58, 0.58, 0.58), (0.5, 0.5, 0.5)),
        (HEMATOXYLIN, (0.001, 0.001, 0.001)),
    ],
    ids=[
        "Giemsa",
        "Alcian blue",
        "Azan",
        "Fast Blue",
        "Orange G",
        "light green",
        "DAB in every cell",
        "silver",
        "haematoxylin alone",
    ],
)
def test_other_stains_do_not_pass(dyes):
    assert problem(tissue(2, dyes=dyes)) is not None


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_trichrome_does_not_pass(seed):
    assert problem(trichrome(seed)) is not None


def test_ihc_with_red_aec_does_not_pass(monkeypatch):
    monkeypatch.setattr("her2d.simulator.stain._DAB", np.array(AEC))
    tissue.cache_clear()
    assert problem(tissue(0, ihc=True)) is not None
    tissue.cache_clear()


@pytest.mark.parametrize(
    "signal", [(0.1, 0.4, 1.3), (0.9, 0.1, 0.1), (0.1, 1.0, 0.2), (0.9, 0.7, 0.9)]
)
def test_coloured_light_on_dark_ground_does_not_pass(signal):
    dark = [np.clip((255.0 - tile) * signal - 20, 0, 255).astype(np.uint8) for tile in tissue(2)]
    assert problem(dark) is not None


# What is measured


def test_two_dyes_are_found_from_their_mixtures():
    amount = np.linspace(0, 1, TILE)
    one, other = np.meshgrid(amount, amount)
    density = one[..., None] * HEMATOXYLIN + other[..., None] * np.array(EOSIN)
    mixed = (245 * 10**-density).round().astype(np.uint8)
    found = stain([mixed, GLASS])
    assert degrees_between(found.hematoxylin, HEMATOXYLIN) < 3
    assert degrees_between(found.eosin, EOSIN) < 3


def test_every_second_pixel_is_counted_by_six_bits_of_each_channel():
    rng = np.random.default_rng(7)
    picture = rng.integers(0, 256, (32, 48, 3), np.uint8)
    pen = rng.random((32, 48)) < 0.3
    found = measure_colours(picture, pen)
    red, green, blue = np.moveaxis(picture[::2, ::2].astype(np.int64) >> 2, 2, 0)
    codes = (red * 64 + green) * 64 + blue
    colours, pixels = np.unique(codes[~pen[::2, ::2]], return_counts=True)
    assert found.colours.tolist() == colours.tolist()
    assert found.pixels.tolist() == pixels.tolist()
    assert (found.ink, found.counted) == (pen[::2, ::2].sum(), 16 * 24)


def test_stained_tissue_is_measured_in_square_millimetres_without_ink():
    half = GLASS.copy()
    half[:, : TILE // 2] = (200, 120, 170)
    half[:, -TILE // 4 :] = (40, 60, 160)
    found = measured([half, GLASS])
    assert found.stained_mm2 == pytest.approx(TILE_MM2 / 2, rel=0.02)
    assert found.ink_percent == pytest.approx(100 / 3, rel=0.05)
    assert found.pink_percent == pytest.approx(100, abs=2)


def test_shares_are_of_the_stained_tissue_and_not_of_the_glass():
    tile = GLASS.copy()
    tile[:, :128], tile[:, 128:256] = (200, 120, 170), (150, 100, 60)
    found = measured([tile, *[GLASS] * 20])
    assert found.pink_percent == pytest.approx(50, abs=2)
    assert found.brown_percent == found.foreign_percent == pytest.approx(50, abs=2)


@settings(max_examples=5)
@given(st.permutations(range(4)))
def test_the_order_of_tiles_does_not_matter(order):
    tiles = tissue(2)
    assert stain([tiles[place] for place in order]) == stain(tiles)


def test_an_angle_is_independent_of_a_vectors_length():
    assert degrees_between((0.1, 0.1, 0.0), (7.0, 0.0, 0.0)) == pytest.approx(45)
    assert degrees_between((0.3, 0.4, 0.2), (0.3, 0.4, 0.2)) == pytest.approx(0, abs=1e-5)
    assert degrees_between(None, EOSIN) is None


# What is said


HE = SlideStain(
    stained_mm2=10.0,
    ink_percent=0.0,
    brown_percent=0.2,
    foreign_percent=0.5,
    pink_percent=70.0,
    hematoxylin=HeStain().hematoxylin,
    eosin=HeStain().eosin,
)


def said(found: SlideStain, *, has_tumor: bool = True, **limits) -> str | None:
    return find_stain_problem(found, HeStain(**limits), has_tumor=has_tumor)


def test_a_slide_with_too_little_stained_tissue_to_tell_is_not_called():
    scarce = replace(HE, stained_mm2=0.01)
    assert said(scarce) == (
        "The stain cannot be told: 0.01 mm2 of tissue is stained, and 0.05 mm2 are needed."
    )


def test_a_slide_with_too_little_stained_tissue_and_no_tumor_is_not_suspected():
    assert said(replace(HE, stained_mm2=0.01), has_tumor=False) is None
    assert problem([GLASS], tumor_mm2=0.0) is None


def test_colours_that_he_cannot_mix_are_named_as_such_if_they_are_not_brown():
    assert said(replace(HE, foreign_percent=52.0)) == (
        "The slide is not stained with H&E: 52 % of its tissue has colours that haematoxylin and"
        " eosin cannot mix."
    )


def test_a_dye_far_from_the_bundles_reference_is_named():
    turned = said(replace(HE, eosin=(0.0, 0.7, 0.7)), degrees=10.0)
    assert turned == (
        "The slide is not stained with H&E as the bundle knows it: the colour of its eosin is 16"
        " degrees from the reference, and 10 are allowed."
    )
    assert "haematoxylin" in said(replace(HE, hematoxylin=(0.0, 0.7, 0.7)))


def test_a_purer_blue_than_haematoxylin_is_named_unless_it_may_be_a_pens():
    blue = replace(HE, hematoxylin=(0.75, 0.6, 0.3))
    assert "a purer blue than haematoxylin" in said(blue)
    assert said(replace(blue, ink_percent=2.0)) is None


def test_every_limit_is_the_bundles():
    any_stain = HeStain(
        degrees=180,
        red_to_green=100,
        pink_percent=0,
        foreign_percent=100,
        stained_mm2=0,
    )
    for tiles in (tissue(0, ihc=True), tissue(2, dyes=(HEMATOXYLIN, ALCIAN_BLUE)), [GLASS]):
        assert problem(tiles, he=any_stain) is None


def test_small_counts_do_not_break_the_summary():
    speck = GLASS.copy()
    speck[:4, :4] = (150, 100, 60)
    found = measured([speck])
    assert (found.hematoxylin_degrees, found.eosin_degrees) == (None, None)
    assert "cannot be told" in found.stain_problem
