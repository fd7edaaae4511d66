"""The command that makes the demo bundle, in small."""

import io
import shutil
from itertools import combinations
from pathlib import Path

import pytest
import typer
from built_once import built_once, run_folder
from mil_service import ServedMil, assert_served_as_evaluated
from pango import needs_pango
from rich.console import Console
from typer.testing import CliRunner

from her2d.bundle.integrator import load_integrator
from her2d.bundle.loading import load_bundle
from her2d.cli.app import app
from her2d.inference.selection import open_engine
from her2d.research import demo_bundle
from her2d.research.demo_bundle import Sizes, build, cohort_plans
from her2d.research.evaluation.evaluate import read_report
from her2d.research.evaluation.mil import MIL
from her2d.research.training.cohort import read_cohort
from her2d.research.training.recipe import GateSource
from her2d.research.training.study import Study, StudyError
from her2d.simulator.cohort import write_table

TINY = Sizes(
    slides={"train": 12, "integrator": 6, "test": 4, "external": 4},
    calibration={},
    benign={},
    width=1100,
    height=1100,
    enlarged=100,
    segmenter_width=1 / 16,
    classifier_width=1 / 32,
    segmenter_steps=10,
    classifier_steps=2,
    epochs=1,
    mil_epochs=1,
    integrators=("rf", "mean"),
    integrator_folds=2,
    # A segmenter of ten steps finds no tumour to gate tiles by.
    gate=GateSource.ANNOTATED,
)
SEED = 1


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """The cohorts of the tiny bundle, as a build that was stopped after them leaves them."""

    def build_(folder):
        demo_bundle._simulate(folder, TINY, SEED, Console(file=io.StringIO()))

    return built_once(run_folder(tmp_path_factory) / "demo-cohorts", build_)


@pytest.fixture(scope="module")
def built(simulated):
    def build_(folder):
        shutil.copytree(simulated, folder / "work")
        console = Console(file=io.StringIO())
        build(folder / "bundle", folder / "work", seed=SEED, sizes=TINY, console=console)

    return built_once(simulated.with_name("demo-bundle"), build_) / "bundle"


@pytest.fixture(scope="module")
def report(built):
    return read_report(Study(built.parent / "work" / "study"))


@pytest.mark.slow
def test_the_cohorts_of_a_build_are_simulated_slide_by_slide(simulated):
    for split, plans in cohort_plans(TINY, SEED).items():
        slides = read_cohort(simulated / split / "cohort.csv")
        assert {slide.name for slide in slides} == {plan.name for plan in plans}
        assert all(slide.he_path.is_file() for slide in slides)


@pytest.mark.slow
def test_the_bundle_loads_and_runs(built):
    bundle = load_bundle(built)
    load_integrator(bundle)
    open_engine(bundle, backend="auto", threads=1).close()


@pytest.mark.slow
def test_the_manifest_says_what_was_measured_and_that_it_is_no_diagnosis(built):
    manifest = load_bundle(built).manifest
    assert manifest.measured.slides == 4
    assert "split test" in manifest.measured.cohort
    assert manifest.measured_external.slides == 4
    assert "split external" in manifest.measured_external.cohort
    assert "not for diagnosis" in manifest.intended_use
    assert "--seed 1" in manifest.training.command


@pytest.mark.slow
def test_the_bundle_has_the_papers_method_whatever_another_model_measures(report):
    assert (report.segmenter, report.classifier, report.integrator) == ("segnet", "resnet18", "rf")


@pytest.mark.slow
def test_other_models_are_measured_beside_it(report):
    assert {row.name for row in report.classifiers} == {"resnet18", "vit_b_32"}
    assert {row.integrator for row in report.slides} == {"rf", "mean", MIL}


@pytest.mark.slow
def test_its_baseline_as_a_bundle_serves_what_was_evaluated(built, tmp_path):
    mil = ServedMil(Study(built.parent / "work" / "study"), tmp_path / "attention")
    arguments = ["bundle", "build", str(mil.bundle), "--study", str(mil.study.root)]
    done = CliRunner().invoke(app, [*arguments, "--method", "mil"])
    assert done.exit_code == 0, done.output
    assert_served_as_evaluated(mil, tmp_path)


def test_every_split_holds_slides_of_all_magnifications_and_no_slide_or_patient_twice():
    splits = cohort_plans(Sizes(), seed=11)
    for plans in splits.values():
        assert {plan.magnification for plan in plans} == {4.0, 20.0, 40.0}
        enlarged = {plan.her2_status for plan in plans if plan.magnification > 4}
        assert enlarged >= {"positive", "negative"}
    everything = [plan for plans in splits.values() for plan in plans]
    assert len({plan.name for plan in everything}) == len(everything)
    for one, other in combinations(splits.values(), 2):
        assert not {plan.patient for plan in one} & {plan.patient for plan in other}


def test_the_external_slides_are_of_the_second_centre_and_no_others():
    for split, plans in cohort_plans(Sizes(), seed=11).items():
        assert {plan.center.name for plan in plans} == {"two" if split == "external" else "one"}


@pytest.mark.slow
@needs_pango
def test_the_report_is_left_as_a_page_and_as_a_pdf(built):
    evaluation = Study(built.parent / "work" / "study").evaluation
    assert (evaluation / "report.html").is_file()
    assert (evaluation / "report.pdf").read_bytes().startswith(b"%PDF-")


def test_an_interrupted_build_finds_what_the_first_one_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found: list[bool] = []

    def interrupted(output: Path, work: Path, **_: object) -> None:
        found.append((work / "slides").is_dir())
        (work / "slides").mkdir(parents=True, exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_bundle, "build", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            demo_bundle.main()
    assert found == [False, True]


@pytest.fixture
def drawn(monkeypatch):
    """Names of the slides that are drawn; only their tables are written."""
    names: list[str] = []

    def write_cohort(folder: Path, plans, **_: object) -> None:
        folder.mkdir(parents=True)
        names.extend(plan.name for plan in plans)
        write_table(folder / "cohort.csv", plans)

    monkeypatch.setattr(demo_bundle, "write_cohort", write_cohort)
    return names


def test_a_resumed_build_draws_no_slide_twice(tmp_path, drawn):
    for _ in range(2):
        demo_bundle._simulate(tmp_path, TINY, SEED, Console(file=io.StringIO()))
    assert len(drawn) == len(set(drawn)) == sum(TINY.slides.values())


def test_slides_of_another_seed_are_not_taken_for_this_builds(tmp_path, drawn):
    console = Console(file=io.StringIO())
    demo_bundle._simulate(tmp_path, TINY, SEED, console)
    with pytest.raises(StudyError, match="lists other slides than this build's"):
        demo_bundle._simulate(tmp_path, TINY, SEED + 1, console)


def test_that_is_one_sentence_of_the_command(tmp_path, monkeypatch, capsys):
    def refused(*_: object, **__: object) -> None:
        raise StudyError("They are other slides.")

    monkeypatch.setattr(demo_bundle, "build", refused)
    with pytest.raises(typer.Exit) as ended:
        demo_bundle.main(tmp_path / "bundle", tmp_path / "work")
    assert ended.value.exit_code == 1
    assert capsys.readouterr().out == "They are other slides.\n"
