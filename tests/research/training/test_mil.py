"""The baseline that learns from slide labels, with the mean colour of a tile as its features."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from encoder_graphs import NCHW, write_encoder
from hypothesis import given
from hypothesis import strategies as st

from her2d.bundle.loading import load_bundle, sha256_of
from her2d.bundle.manifest import Decision
from her2d.inference.mil_engine import OnnxRuntimeMilEngine, mil_self_test
from her2d.method import FOLDS
from her2d.research.training.bags import read_features
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.fit import WEIGHTS_FILE, FitError
from her2d.research.training.mil import TrainedMil, choose_threshold, load_mil, train_mil
from her2d.research.training.mil_candidate import write_mil_candidate
from her2d.research.training.recipe import GateSource, IntegratorRecipe, MilRecipe, Recipe
from her2d.research.training.study import Study, StudyError
from her2d.research.training.tile_store import PreparedTile, TileStore, slide_path, write_slide

TUMOR = np.ones((512, 512), np.uint8)


def slide(number: int, split: Split) -> CohortSlide:
    return CohortSlide(
        name=f"S{number}",
        patient=f"P{number}",
        he_path=Path(f"S{number}"),
        ihc_path=None,
        annotation_path=Path(),
        her2_status=Status.POSITIVE if number % 2 else Status.NEGATIVE,
        split=split,
        morphology={},
    )


def prepare(study: Study, slides: list[CohortSlide]) -> None:
    """Two tiles for each slide, of which one is redder on positive slides."""
    study.write_cohort(slides)
    study.tiles.mkdir()
    for one in slides:
        red = 250 if one.her2_status is Status.POSITIVE else 20
        tiles = [
            PreparedTile(column, 0, np.full((512, 512, 3), color, np.uint8), TUMOR, -1)
            for column, color in enumerate(((120, 90, 100), (red, 90, 100)))
        ]
        write_slide(
            slide_path(study.tiles, one.name), iter(tiles), expression_from="none", fingerprint={}
        )


def recipe_with(encoder: Path, seed: int = 5) -> Recipe:
    return Recipe(
        seed=seed,
        gate=GateSource.ANNOTATED,
        integrator=IntegratorRecipe(kept_apart=0),
        mil=MilRecipe(
            encoder=encoder,
            learning_rate=0.02,
            weight_decay=0,
            max_epochs=8,
            patience=3,
            hidden=8,
            attention=4,
            dropout=0.0,
            accelerator="cpu",
        ),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Study, Recipe]:
    folder = tmp_path_factory.mktemp("mil")
    study = Study(folder / "study")
    study.root.mkdir()
    training = [slide(n, Split.TRAIN) for n in range(12)]
    prepare(study, [*training, *(slide(n, Split.INTEGRATOR) for n in range(20, 24))])
    recipe = recipe_with(write_encoder(folder, NCHW))
    train_mil(study, recipe)
    return study, recipe


@pytest.fixture
def copied(trained, tmp_path) -> tuple[Study, Recipe]:
    shutil.copytree(trained[0].root, tmp_path / "study")
    return Study(tmp_path / "study"), trained[1]


def loaded(study: Study, recipe: Recipe) -> TrainedMil:
    found = load_mil(study, recipe)
    assert found is not None
    return found


def bag(*reds: int) -> np.ndarray:
    return np.array([[[red / 255, 90 / 255, 100 / 255]] for red in reds], np.float32)


@pytest.mark.slow
def test_it_learns_which_tile_makes_a_slide_positive_and_attends_to_it(trained):
    mil = loaded(*trained)
    assert mil.decision.slides == 4
    assert mil.decision.positive == 2
    assert mil.decision.chosen_on.startswith("held-out slides")
    positive, attention = mil.predict(bag(120, 250))
    negative, _ = mil.predict(bag(120, 20))
    assert negative < mil.decision.threshold < positive
    assert attention.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_a_fold_trained_again_has_the_same_weights_and_nothing_else_is_trained(copied):
    study, recipe = copied
    weights = [study.mil / str(fold) / WEIGHTS_FILE for fold in range(FOLDS)]
    before = [sha256_of(path) for path in weights]
    kept = weights[1].stat().st_mtime_ns
    features = next((study.mil / "features").iterdir())
    written = features.stat().st_mtime_ns
    shutil.rmtree(study.mil / "0")
    train_mil(study, recipe)
    assert [sha256_of(path) for path in weights] == before
    assert weights[1].stat().st_mtime_ns == kept
    assert features.stat().st_mtime_ns == written


@pytest.mark.slow
def test_without_slides_kept_apart_each_fold_predicts_those_that_it_held_out(copied):
    study, recipe = copied
    study.write_cohort([one for one in study.cohort() if one.split is Split.TRAIN])
    _, decision = train_mil(study, recipe)
    assert (decision.slides, decision.positive) == (12, 6)
    assert decision.chosen_on.startswith("training slides")


@pytest.mark.slow
def test_a_slide_that_it_learned_from_cannot_test_it(copied):
    study, recipe = copied
    others = [one for one in study.cohort() if one.name != "S0"]
    study.write_cohort([*others, slide(0, Split.TEST)])
    study.folds.unlink()
    with pytest.raises(StudyError, match="learned from other slides, labels, folds or features"):
        load_mil(study, recipe)


@pytest.mark.slow
def test_another_seed_or_encoder_is_not_mistaken_for_it(copied, tmp_path):
    study = copied[0]
    shutil.rmtree(study.mil / "features")
    other = recipe_with(write_encoder(tmp_path, NCHW, more="std = [0.5, 0.5, 0.5]"))
    with pytest.raises(StudyError, match="features than the study has now"):
        load_mil(study, other)
    with pytest.raises(FitError, match="trained with another"):
        train_mil(study, other)


def test_a_study_without_it_has_none(tmp_path):
    assert load_mil(Study(tmp_path), Recipe()) is None


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=30))
def test_no_threshold_separates_slides_better_than_the_chosen_one(slides):
    positive = np.array([is_positive for is_positive, _ in slides])
    p = np.array([value for _, value in slides])
    if positive.all() or not positive.any():
        return

    def worth(cut: float) -> float:
        return (p[positive] >= cut).mean() + (p[~positive] < cut).mean()

    chosen = choose_threshold(positive, p)
    assert worth(chosen) >= max(worth(cut) for cut in p) - 1e-9


@pytest.mark.slow
def test_as_a_bundle_it_makes_the_same_features_and_the_same_probability(
    copied, color_bundle, tmp_path
):
    study, recipe = copied
    mil = loaded(study, recipe)
    bundle = write_mil_candidate(study, mil, color_bundle)
    assert bundle.manifest.mil == load_bundle(study.mil_candidate).mil
    engine = OnnxRuntimeMilEngine(bundle, threads=1)
    mil_self_test(engine)
    for path in (study.mil / "features").iterdir():
        store = TileStore(study.tiles, [path.stem])
        features = engine.encode(np.stack([store.pixels(number) for number in range(2)]))
        trained_on = read_features(path)
        assert np.array_equal(features.astype(np.float32), trained_on)
        p, attention = mil.predict(trained_on)
        found = engine.attend(features)
        assert found.p_positive == pytest.approx(p, abs=1e-6)
        assert found.attention == pytest.approx(attention, abs=1e-6)
    engine.close()


@pytest.mark.slow
def test_the_bundle_has_the_limits_by_which_the_evaluation_leaves_slides_uncalled(
    copied, color_bundle
):
    study, recipe = copied
    decision = Decision(tile_cut=0.7, min_tumor_tiles=4, min_tumor_mm2=1.5)
    manifest = color_bundle.manifest.model_copy(update={"decision": decision})
    limited = dataclasses.replace(color_bundle, manifest=manifest)
    found = write_mil_candidate(study, loaded(study, recipe), limited).manifest
    assert (found.decision.min_tumor_tiles, found.decision.min_tumor_mm2) == (4, 1.5)
    assert found.decision.tile_cut == Decision().tile_cut
    assert found.interval is None
    assert found.parts.segmenter.sha256 == color_bundle.manifest.parts.segmenter.sha256
