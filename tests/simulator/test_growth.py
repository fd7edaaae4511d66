"""What grows where on a slide, as fields; and what of it is drawn."""

from dataclasses import replace

import numpy as np
import pytest
from skimage.color import rgb2hed
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from her2d.method import TILE_PX
from her2d.simulator.anatomy import Anatomy, anatomy_of
from her2d.simulator.centers import SECOND
from her2d.simulator.cohort import tile_truth
from her2d.simulator.growth import Growth
from her2d.simulator.paper_cohort import EXTERNAL, INTERNAL, plan_paper_cohort
from her2d.simulator.plan import AnnotationNoise, Histology, IhcSection, SlidePlan
from her2d.simulator.render import annotated_region, render_ihc_region, render_region

STEP = 32

EVERYTHING = SlidePlan(
    "every",
    "P",
    17,
    2560,
    2048,
    "positive",
    0.4,
    histology=Histology(
        glandular=0.5,
        papillary=0.2,
        adenoid=0.15,
        signet_ring=0.2,
        mucinous=0.15,
        tertiary_lymphoid=True,
    ),
    ihc=IhcSection(strong=1.0, weak=0.1, noise=0.4),
)


def points(plan: SlidePlan) -> tuple[np.ndarray, np.ndarray]:
    columns, rows = -(-plan.width // TILE_PX), -(-plan.height // TILE_PX)
    x = np.arange(STEP / 2, columns * TILE_PX, STEP, dtype=np.float32)
    y = np.arange(STEP / 2, rows * TILE_PX, STEP, dtype=np.float32)
    return x[None], y[:, None]


def growth_of(plan: SlidePlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return growth, tumour and HER2-high tumour at points that cover the tiles of a slide."""
    x, y = points(plan)
    anatomy = anatomy_of(plan)
    tumor = (anatomy.tumor(x, y) > 0) & (x < plan.width) & (y < plan.height)
    return anatomy.growth(x, y), tumor, tumor & (anatomy.strong(x, y) > 0)


def in_tiles(mask: np.ndarray) -> np.ndarray:
    side = TILE_PX // STEP
    return mask.reshape(mask.shape[0] // side, side, -1, side).sum((1, 3))


def share_of_tiles(part: np.ndarray, tumor: np.ndarray) -> float:
    """Return P of equation 1, if `part` is what makes a tile strong."""
    counts, parts = in_tiles(tumor), in_tiles(part & tumor)
    counted = counts > 0.1 * (TILE_PX // STEP) ** 2
    return counts[counted & (2 * parts >= counts)].sum() / counts[counted].sum()


@pytest.fixture(scope="module")
def slides() -> list[SlidePlan]:
    plans = plan_paper_cohort(60, 9, positive_fraction=0.4, width=2560, height=2048)
    return [plan for plan in plans if plan.her2_status != "indeterminate"][:24]


def test_p_of_a_slide_is_as_planned_and_on_the_planned_side_of_the_threshold(slides):
    for plan in slides:
        _, tumor, strong = growth_of(plan)
        p = share_of_tiles(strong, tumor)
        assert (p >= 0.1) == (plan.strong_fraction >= 0.1)
        most = in_tiles(tumor).max() / tumor.sum()
        assert abs(p - plan.strong_fraction) < 2 * most


def test_features_grow_where_the_table_says_so_and_nowhere_else(slides):
    for plan in slides:
        growth, tumor, _ = growth_of(plan)
        grown = {Growth(value) for value in np.unique(growth[tumor])}
        histology = plan.histology
        assert (Growth.PAPILLARY in grown) == (histology.papillary > 0)
        assert (Growth.CRIBRIFORM in grown) == (histology.adenoid > 0)
        assert (Growth.SIGNET_RING in grown) == (histology.signet_ring > 0)
        assert (Growth.MUCINOUS in grown) == (histology.mucinous > 0)
        assert bool(anatomy_of(plan).follicles) == histology.tertiary_lymphoid


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("glandular", [0.15, 0.4, 0.7])
def test_glands_of_a_negative_slide_grow_in_the_planned_share_of_tiles(glandular, seed):
    plan = SlidePlan(
        "n", "P", seed, 4096, 3072, "negative", 0.0, histology=Histology(glandular=glandular)
    )
    growth, tumor, strong = growth_of(plan)
    found = share_of_tiles(growth == Growth.TUBULAR, tumor)
    assert found == pytest.approx(glandular, abs=0.08)
    assert not strong.any()


def test_a_poorly_cohesive_positive_slide_has_no_glands():
    plan = SlidePlan("p", "P", 5, 2560, 2048, "positive", 0.6, histology=Histology(glandular=0.0))
    growth, tumor, strong = growth_of(plan)
    assert set(growth[tumor]) == {Growth.DIFFUSE}
    assert share_of_tiles(strong, tumor) > 0.4


def test_without_a_histology_glands_are_what_is_her2_high(positive):
    growth, tumor, strong = growth_of(positive)
    assert np.array_equal(growth[tumor] == Growth.TUBULAR, strong[tumor])


@pytest.mark.parametrize(
    ("population", "lowest", "highest"), [(INTERNAL, 0.86, 0.89), (EXTERNAL, 0.82, 0.86)]
)
def test_annotators_agree_with_the_picture_by_the_papers_miou(slides, population, lowest, highest):
    """A segmenter cannot have a better MIoU than this, and has its own errors in addition."""
    agreement = np.zeros((2, 2))
    for plan in slides:
        anatomy = Anatomy(replace(plan, annotation=population.annotation))
        x, y = points(plan)
        tissue = anatomy.tissue(x, y) > 0
        truth = anatomy.tumor(x, y) > 0
        drawn = (anatomy.annotated_tumor(x, y) > 0) & tissue
        counted = np.kron(in_tiles(tissue) > 25, np.ones((TILE_PX // STEP,) * 2)) > 0
        np.add.at(agreement, (truth[counted].astype(int), drawn[counted].astype(int)), 1)
    both = agreement.diagonal()
    miou = (both / (agreement.sum(0) + agreement.sum(1) - both)).mean()
    assert lowest < miou < highest


def test_an_annotator_without_noise_draws_the_truth(positive):
    region = render_region(positive, 900, 700, 256, 256)
    exact = replace(positive, annotation=AnnotationNoise(0.0, 0.0))
    drawn = annotated_region(exact, 900, 700, 256, 256)
    assert np.array_equal(drawn.tumor, region.tumor)
    assert np.array_equal(drawn.strong, region.strong)


def at(where: np.ndarray, margin: int = 3) -> tuple[int, int]:
    """Return the 4x pixel in the middle of the largest spot of `where`, on the grid of points."""
    inside = np.pad(where, margin).astype(int).cumsum(0).cumsum(1)
    side = 2 * margin
    counts = inside[side:, side:] - inside[:-side, side:] - inside[side:, :-side]
    counts = counts + inside[:-side, :-side]
    row, column = np.unravel_index(counts.argmax(), counts.shape)
    return int(column * STEP), int(row * STEP)


def region_of(growth: Growth) -> np.ndarray:
    grown, tumor, _ = growth_of(EVERYTHING)
    x, y = at((grown == growth) & tumor)
    return render_region(EVERYTHING, x - 64, y - 64, 128, 128).rgb.astype(int)


def white_share(rgb: np.ndarray) -> float:
    return float((rgb.min(axis=2) > 205).mean())


def dark_share(rgb: np.ndarray) -> float:
    return float((rgb[..., 0] < 160).mean())


@pytest.mark.slow
def test_glands_have_lumina_and_mucin_has_few_cells():
    tubular, cribriform, papillary, mucin, diffuse = (
        region_of(growth)
        for growth in (
            Growth.TUBULAR,
            Growth.CRIBRIFORM,
            Growth.PAPILLARY,
            Growth.MUCINOUS,
            Growth.DIFFUSE,
        )
    )
    for glands in (tubular, cribriform, papillary):
        assert white_share(glands) > 0.02
    assert dark_share(mucin) < 0.5 * dark_share(diffuse)


@pytest.mark.slow
def test_signet_ring_cells_have_a_pale_drop_beside_a_dark_nucleus():
    grown, tumor, _ = growth_of(EVERYTHING)
    x, y = at((grown == Growth.SIGNET_RING) & tumor)
    rgb = render_region(EVERYTHING, x * 5 - 200, y * 5 - 200, 400, 400, magnification=20.0).rgb
    assert 0.08 < white_share(rgb.astype(int)) < 0.6
    assert 0.05 < dark_share(rgb.astype(int)) < 0.4


@pytest.mark.slow
def test_a_follicle_is_dark_around_a_paler_germinal_centre():
    follicle = anatomy_of(EVERYTHING).follicles[0]
    side = round(follicle.radius)
    left, top = round(follicle.x) - side, round(follicle.y) - side
    rgb = render_region(EVERYTHING, left, top, 2 * side, 2 * side).rgb.astype(int)
    x, y = np.meshgrid(np.arange(-side, side), np.arange(-side, side))
    distance = np.hypot(x, y) / follicle.radius
    middle, mantle = rgb[distance < 0.35], rgb[(distance > 0.6) & (distance < 0.85)]
    assert middle.mean() > mantle.mean() + 15


@pytest.mark.slow
def test_neighbouring_regions_of_all_growth_join_without_a_seam():
    plan = replace(EVERYTHING, center=SECOND)
    for x, y in ((900, 700), (1200, 900), (600, 1100)):
        whole = render_region(plan, x, y, 300, 200).rgb
        parts = [render_region(plan, x + left, y, 150, 200).rgb for left in (0, 150)]
        assert (np.concatenate(parts, axis=1) == whole).mean() > 0.995


@pytest.mark.slow
def test_dab_follows_her2_whatever_the_tumour_grows_like():
    plan = replace(EVERYTHING, histology=Histology(glandular=0.0))
    region = render_region(plan, 512, 512, 1024, 1024)
    ihc = render_ihc_region(plan, 512, 512, 1024, 1024).astype(int)
    brown = ihc[..., 0] - ihc[..., 2]
    assert brown[region.strong].mean() > brown[region.tumor & ~region.strong].mean() + 10


def test_the_ihc_section_shows_the_tissue_at_its_shift():
    straight = replace(EVERYTHING, ihc=IhcSection())
    shifted = replace(EVERYTHING, ihc=IhcSection(shift_x=20.0, shift_y=-12.0))
    one = render_ihc_region(straight, 900, 700, 128, 128).astype(int)
    other = render_ihc_region(shifted, 920, 688, 128, 128).astype(int)
    assert np.abs(one - other).mean() < 2.5  # the sensor's noise stays where it was


@pytest.mark.slow
def test_colour_alone_does_not_tell_strong_tiles_from_weak_ones():
    """Neither mean and spread of RGB nor those of the dyes reach a tile AUROC of 0.75."""
    plans = plan_paper_cohort(30, 3, positive_fraction=0.5, width=1400, height=1200)
    features, strong, patient = [], [], []
    for plan in plans:
        _, tumor, _ = growth_of(plan)
        for row, column in np.argwhere(in_tiles(tumor) > 28)[:4]:
            region = render_region(plan, column * TILE_PX, row * TILE_PX, TILE_PX, TILE_PX)
            truth = tile_truth(
                column, row, tumor=region.tumor, strong=region.strong, picture=region.rgb.copy
            )
            if truth.tile_class not in ("weak", "strong"):
                continue
            rgb = region.rgb.reshape(-1, 3).astype(np.float32)
            dyes = rgb2hed(region.rgb[::4, ::4]).reshape(-1, 3)
            spread = [part for dye in (rgb, dyes) for part in (dye.mean(axis=0), dye.std(axis=0))]
            features.append(np.concatenate(spread))
            strong.append(truth.tile_class == "strong")
            patient.append(plan.patient)
    assert 15 < sum(strong) < len(strong) - 15
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    p = cross_val_predict(
        model, features, strong, groups=patient, cv=GroupKFold(5), method="predict_proba"
    )[:, 1]
    assert roc_auc_score(strong, p) < 0.75
