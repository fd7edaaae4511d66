"""Publish the baseline that learns from slide labels, with what the report says of it."""

import shutil

import pytest
from mil_bundles import write_mil_bundle

from her2d.bundle.loading import load_bundle
from her2d.method import FOLDS
from her2d.research.evaluation import publish
from her2d.research.evaluation.mil import MIL
from her2d.research.evaluation.report import Report, SegmenterRow
from her2d.research.evaluation.slide_predictions import IntegratorPrediction, slide_rows
from her2d.research.training.fit import WEIGHTS_FILE
from her2d.research.training.mil import DECISION_FILE, mil_files
from her2d.research.training.study import Study, StudyError


def predicted(right: bool) -> list[IntegratorPrediction]:
    """Four slides, of which the last is predicted right or wrong."""
    statuses = ("positive", "negative", "positive", "negative")
    calls = (*statuses[:3], "negative" if right else "positive")
    return [
        IntegratorPrediction("test", f"P{n}", status, call, 0.9 if call == "positive" else 0.1)
        for n, (status, call) in enumerate(zip(statuses, calls, strict=True))
    ]


@pytest.fixture
def study(tmp_path, color_bundle, monkeypatch) -> Study:
    """A study of which only what this needs is there: the other method's models are not."""
    monkeypatch.setattr(publish, "selected_files", lambda _: {})
    found = Study(tmp_path / "study")
    candidate = write_mil_bundle(color_bundle, found.mil_candidate)
    for path in (DECISION_FILE, *(f"{fold}/{WEIGHTS_FILE}" for fold in range(FOLDS))):
        (found.mil / path).parent.mkdir(parents=True, exist_ok=True)
        (found.mil / path).write_text(path)
    report = Report(
        cohort="four slides",
        code_version="1",
        seed=1,
        bundle_digest="0" * 64,
        models={},
        mil_bundle_digest=candidate.digest,
        mil_models=mil_files(found),
        segmenter="unet",
        classifier="resnet18",
        integrator="rf",
        integrator_fitted_on="held-out slides",
        overridden=(),
        interval="-",
        least_tumor="-",
        segmenters=(SegmenterRow(name="unet", selected=True, validation=0.8, sets={"test": 0.8}),),
        classifiers=(),
        integrators=(),
        slides=slide_rows({"rf": predicted(right=True), MIL: predicted(right=False)}, "rf"),
        predictions=(),
        validation=(),
        calibration=(),
        misdiagnosis=(),
        misdiagnosis_left_out=(),
    )
    found.evaluation.mkdir()
    (found.evaluation / "report.json").write_text(report.model_dump_json())
    return found


def test_the_bundle_has_the_baselines_own_figures_and_no_figure_of_tiles(study, tmp_path):
    written = publish.publish_mil(study, tmp_path / "engines" / "attention", version="2")
    manifest = load_bundle(written.directory).manifest
    assert (manifest.name, manifest.version) == ("attention", "2")
    assert manifest.measured is not None
    assert manifest.measured.slide_accuracy == 0.75
    assert manifest.measured.tile_auroc is None
    assert manifest.measured_external is None
    card = (written.directory / "MODEL_CARD.md").read_text()
    assert "a slide is positive from a probability of 0.3, chosen on no slides" in card
    assert "its probability has no interval" in card
    assert "tile AUROC" not in card


@pytest.mark.parametrize("changed", [f"mil/{DECISION_FILE}", f"mil/3/{WEIGHTS_FILE}"])
def test_a_baseline_that_changed_after_it_was_measured_is_refused(study, tmp_path, changed):
    (study.root / changed).write_text("another")
    with pytest.raises(StudyError, match="changed since they were evaluated") as refused:
        publish.publish_mil(study, tmp_path / "b")
    assert changed in str(refused.value)
    assert not (tmp_path / "b").exists()


def test_a_candidate_that_changed_after_it_was_measured_is_refused(study, tmp_path):
    path = study.mil_candidate / "manifest.toml"
    path.write_text(path.read_text() + "\n# another\n")
    with pytest.raises(StudyError, match="candidate-mil"):
        publish.publish_mil(study, tmp_path / "b")


def test_a_baseline_that_cannot_be_a_bundle_says_why(study, tmp_path):
    problem = "vit.onnx has 2.5 GB with its weights."
    report = publish.read_report(study).model_copy(
        update={"mil_bundle_digest": None, "mil_bundle_problem": problem}
    )
    (study.evaluation / "report.json").write_text(report.model_dump_json())
    with pytest.raises(StudyError, match=f"cannot be a bundle. {problem}"):
        publish.publish_mil(study, tmp_path / "b")


def test_an_evaluation_without_a_baseline_has_none_to_publish(study, tmp_path):
    report = publish.read_report(study).model_copy(update={"mil_bundle_digest": None})
    (study.evaluation / "report.json").write_text(report.model_dump_json())
    shutil.rmtree(study.mil)
    with pytest.raises(StudyError, match="Run `her2d train mil` and `her2d evaluate` first"):
        publish.publish_mil(study, tmp_path / "b")
