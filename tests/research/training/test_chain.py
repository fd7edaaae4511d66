"""The paper's procedure from a cohort to a served bundle, in small, and killed in the middle."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from built_once import built_once, run_folder
from encoder_graphs import write_encoder
from mil_service import ServedMil, assert_served_as_evaluated
from pango import needs_pango
from typer.testing import CliRunner

from her2d.bundle.loading import load_bundle, sha256_of
from her2d.cli.app import app
from her2d.research.evaluation.mil import MIL as MIL_ROW
from her2d.research.training.candidate import write_candidate
from her2d.research.training.cohort import Split
from her2d.research.training.recipe import study_recipe
from her2d.research.training.study import Study
from her2d.simulator.cohort import write_cohort
from her2d.simulator.paper_cohort import plan_splits
from her2d.simulator.stain import DAB_THRESHOLD

pytestmark = pytest.mark.slow

# Networks of this size find too little tumour to gate tiles by.
RECIPE = """\
seed = 7
gate = "annotated"
mean = [0.75, 0.60, 0.78]
std = [0.16, 0.18, 0.12]
segmenters = ["unet"]
classifiers = ["resnet18"]
integrators = ["lr", "rf"]
[segmenter]
learning_rate = 3e-3
weight_decay = 0
schedule = "one_cycle"
batch = 4
max_epochs = 3
crop = 128
tiles_per_epoch = 48
sampling = "balanced"
width_multiplier = 0.0625
accelerator = "cpu"
loader_workers = 0
[classifier]
learning_rate = 2e-3
batch = 4
max_epochs = 2
crop = 128
tiles_per_epoch = 8
sampling = "balanced"
width_multiplier = 0.03125
accelerator = "cpu"
loader_workers = 0
[integrator]
folds = 2
"""


def her2d(*arguments: object) -> str:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert found.exit_code == 0, found.output
    return found.stdout


def process(*arguments: object) -> subprocess.Popen[bytes]:
    # One thread: two processes side by side, and sums in one order.
    return subprocess.Popen(
        [sys.executable, "-m", "her2d", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def killed_at(reached: Path, *arguments: object) -> None:
    """Run her2d until `reached` is there, and kill it."""
    running = process(*arguments)
    try:
        while not reached.exists() and running.poll() is None:
            time.sleep(0.02)
        assert running.poll() is None, "it ended before it could be killed"
    finally:
        running.kill()
        running.wait()


def models(study: Path) -> dict[str, str]:
    """Every trained model of a study by its bytes."""
    paths = [*study.rglob("model.safetensors"), *study.glob("integrators/*.skops")]
    return {str(path.relative_to(study)): sha256_of(path) for path in paths}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A hard cohort of twenty-eight slides from two centres, prepared, with its recipe."""

    def build(folder: Path) -> None:
        slides = {"train": 20, "test": 4, "external": 4}
        positive = dict.fromkeys(slides, 0.5)
        plans = [
            # So that folds of so few slides have strong tiles.
            replace(plan, strong_fraction=max(plan.strong_fraction, 0.6))
            if plan.her2_status == "positive"
            else plan
            for plan in plan_splits(slides, 4, positive=positive, width=1100, height=1100)
        ]
        write_cohort(folder / "cohort", plans, workers=2)
        (folder / "recipe.toml").write_text(RECIPE)
        her2d(
            "prepare",
            folder / "cohort" / "cohort.csv",
            "--study",
            folder / "prepared",
            "--align",
            "--expression",
            "dab",
            "--dab-threshold",
            DAB_THRESHOLD,
        )

    return built_once(run_folder(tmp_path_factory) / "chain", build)


@dataclass(frozen=True)
class Twice:
    """The same study trained without a stop, and killed twice and resumed."""

    straight: Path
    killed: Path


@pytest.fixture(scope="module")
def twice(prepared) -> Twice:
    def build(folder: Path) -> None:
        straight_study, killed_study = folder / "straight", folder / "killed"
        for study in (straight_study, killed_study):
            shutil.copytree(prepared / "prepared", study)
        recipe = ("--recipe", prepared / "recipe.toml")
        straight = process("train", "all", "--study", straight_study, *recipe)
        try:
            command = ("train", "all", "--study", killed_study, *recipe)
            killed_at(killed_study / "segmenters" / "unet" / "last.ckpt", *command)
            killed_at(killed_study / "classifiers" / "resnet18" / "1" / "last.ckpt", *command)
            assert "integrators" not in {path.name for path in killed_study.iterdir()}
            assert process(*command).wait() == 0
            assert straight.wait() == 0
        finally:
            straight.kill()

    folder = built_once(prepared.with_name("chain-twice"), build)
    return Twice(folder / "straight", folder / "killed")


MIL = tuple(
    word
    for setting in (
        "accelerator='cpu'",
        "learning_rate=0.01",
        "max_epochs=3",
        "hidden=16",
        "attention=8",
    )
    for word in ("--set", f"mil.{setting}")
)


@pytest.fixture(scope="module")
def trained(twice) -> Path:
    """The study that was trained without a stop, evaluated, with its bundles beside it.

    With its baseline that learns from slide labels, on an encoder of the users.
    """

    def build(folder: Path) -> None:
        study = folder / "study"
        shutil.copytree(twice.straight, study)
        more = "resize = true\nmean = [0.7, 0.6, 0.7]\n"
        encoder = write_encoder(folder, ("N", 3, 224, 224), more=more)
        her2d("train", "mil", "--study", study, *MIL, "--set", f"mil.encoder='{encoder}'")
        her2d("evaluate", "--study", study)
        (folder / "engines").mkdir()
        her2d("bundle", "build", folder / "engines" / "ours", "--study", study)
        attention = folder / "engines" / "attention"
        her2d("bundle", "build", attention, "--study", study, "--method", "mil")

    return built_once(twice.straight.parent.with_name("chain-trained"), build) / "study"


@pytest.fixture(scope="module")
def evaluated(trained) -> dict:
    return json.loads((trained / "evaluation" / "report.json").read_text())


@pytest.fixture(scope="module")
def bundle(trained) -> Path:
    return trained.parent / "engines" / "ours"


def test_killed_in_the_middle_and_resumed_it_ends_with_the_same_models(twice):
    assert models(twice.killed) == models(twice.straight)


def test_the_same_study_and_seed_give_the_same_parts_of_a_bundle(twice, trained, tmp_path):
    evaluated = load_bundle(Study(trained).candidate).manifest
    study = Study(tmp_path / "killed")
    shutil.copytree(twice.killed, study.root)
    recipe, command = study_recipe(trained, None), evaluated.training.command
    again = write_candidate(study, recipe, command=command).manifest
    # By their SHA-256. What the evaluation measures comes later.
    assert again.parts == evaluated.parts
    assert again.training == evaluated.training
    assert again.stain == evaluated.stain


def test_the_manifest_states_what_the_networks_were_trained_on(bundle):
    (environment,) = load_bundle(bundle).manifest.training.environments
    assert environment.threads == 1
    assert environment.device.startswith("cpu")
    assert environment.torch == torch.__version__
    assert environment.cuda is None


def test_every_model_the_recipe_names_is_trained_and_one_of_each_kind_chosen(trained):
    assert len(models(trained)) == 1 + 5 + 2 + 5
    selection = json.loads((trained / "model_selection.json").read_text())
    assert (selection["segmenter"], selection["classifier"]) == ("unet", "resnet18")
    assert selection["integrator"] in ("lr", "rf")
    assert "held-out slides" in selection["integrator_fitted_on"]


def test_slides_are_kept_apart_and_the_report_says_how_much_the_five_disagree(trained, evaluated):
    cohort = Study(trained).cohort()
    kept = [one for one in cohort if one.split is Split.INTEGRATOR]
    assert {one.her2_status for one in kept} == {"positive", "negative"}
    assert [row["set"] for row in evaluated["disagreement"]] == ["integrator", "test", "external"]
    assert all(0 <= row["not_unanimous"] <= 1 for row in evaluated["disagreement"])


def test_training_again_trains_nothing_and_changes_nothing(trained, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(trained, study)
    before = models(study)
    checkpoint = study / "segmenters" / "unet" / "last.ckpt"
    written = checkpoint.stat().st_mtime_ns
    her2d("train", "segmenter", "--study", study)
    assert checkpoint.stat().st_mtime_ns == written
    assert models(study) == before


def test_an_integrator_fitted_alone_stands_beside_the_others(trained, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(trained, study)
    her2d("train", "integrator", "lr", "--study", study)
    scores = json.loads((study / "integrators" / "results.json").read_text())
    assert {score["name"] for score in scores} == {"lr", "rf"}
    assert (study / "model_selection.json").read_text() == (
        trained / "model_selection.json"
    ).read_text()


def test_integrators_fitted_on_another_search_do_not(trained, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(trained, study)
    her2d("train", "integrator", "lr", "--study", study, "--set", "integrator.folds=3")
    (score,) = json.loads((study / "integrators" / "results.json").read_text())
    assert score["name"] == "lr"


def test_the_report_holds_every_table(evaluated):
    assert [row["name"] for row in evaluated["segmenters"]] == ["unet"]
    assert len(evaluated["classifiers"][0]["auroc"]) == 5
    assert {row["name"] for row in evaluated["integrators"]} == {"lr", "rf"}
    assert {(row["integrator"], row["set"]) for row in evaluated["slides"]} == {
        (integrator, split)
        for integrator in ("lr", "rf", MIL_ROW)
        for split in ("test", "external")
    }
    assert len(evaluated["predictions"]) == 8
    assert evaluated["segmenters"][0]["sets"]["test"] > 0.4


def test_the_page_holds_its_figures_and_needs_nothing_beside_it(trained, evaluated):
    page = (trained / "evaluation" / "report.html").read_text()
    assert page.count("<svg") >= 2
    called = [p for p in evaluated["predictions"] if p["predicted"] != "indeterminate"]
    for prediction in called:
        for picture in ("H&amp;E", "heatmap", "IHC", "H&amp;E at 4x", "IHC at 4x"):
            assert f'alt="{picture} of {prediction["name"]} ({prediction["set"]}): ' in page
    kinds = {
        (prediction["set"], prediction["true_status"])
        for prediction in evaluated["predictions"]
        if prediction["true_status"] != "indeterminate"
    }
    assert page.count('alt="annotated of ') == len(kinds)
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)
    assert "url(" not in page.replace("url(#", "")


def test_stain_is_compared_within_the_centre_and_outside(trained, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(trained, study)
    before = models(study)
    her2d("train", "stain", "resnet18", "--study", study)
    with (study / "evaluation" / "stain.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["stain"], row["split"]) for row in rows} == {
        (stain, split)
        for stain in ("recipe", "as scanned", "macenko", "reinhard")
        for split in ("test", "external")
    }
    assert len({row["auroc"] for row in rows}) == len(rows)
    assert all(0 <= float(row["auroc"]) <= 1 for row in rows)
    # Nothing of it becomes part of a bundle.
    assert before.items() <= models(study).items()
    assert "stain" not in (study / "commands.txt").read_text()


def test_the_report_holds_the_paper_and_what_readers_ask_for(trained, evaluated):
    page = (trained / "evaluation" / "report.html").read_text()
    for number in ("Tables 3 and 4", *(f"Table {n}" for n in (1, 2, "S1", "S2", "S3", "S4", "S5"))):
        assert f"<h3>{number}. " in page
    for number in (1, 2, 3, 4, "S1", "S2", "S3"):
        assert f"<h3>Figure {number}. " in page
    assert [row["set"] for row in evaluated["patients"]] == ["test", "external"]
    assert {row["by"] for row in evaluated["subgroups"]} >= {"IHC score", "differentiation"}
    assert [row["name"] for row in evaluated["references"]] == [
        "unet",
        "resnet18",
        "lr",
        "rf",
        MIL_ROW,
    ]
    assert len(evaluated["tripod"]) == 52


def test_the_rule_out_threshold_comes_from_slides_that_were_kept_apart(evaluated):
    kept = next(each for each in evaluated["sets"] if each["set"] == "integrator")
    assert evaluated["rule_out"]["slides"] <= kept["positive"] + kept["negative"]


@needs_pango
def test_the_report_is_a_pdf_too_which_can_be_written_again(trained, tmp_path):
    written = (trained / "evaluation" / "report.pdf").read_bytes()
    assert written.startswith(b"%PDF-")
    (tmp_path / "evaluation").mkdir()
    page = (trained / "evaluation" / "report.html").read_text()
    (tmp_path / "evaluation" / "report.html").write_text(page[: page.index("<h2")])
    her2d("evaluate", "pdf", "--study", tmp_path)
    assert (tmp_path / "evaluation" / "report.pdf").read_bytes().startswith(b"%PDF-")


def test_the_bundle_states_what_was_measured(trained, bundle, evaluated):
    manifest = load_bundle(bundle).manifest
    selected = next(row for row in evaluated["slides"] if row["selected"])
    assert manifest.name == "ours"
    assert manifest.measured.slide_accuracy == selected["accuracy"]["value"]
    assert manifest.measured.slides == 4
    scores = json.loads((trained / "integrators" / "results.json").read_text())
    (cut,) = (s["tile_cut"] for s in scores if s["name"] == selected["integrator"])
    assert manifest.decision.tile_cut == cut
    assert manifest.training.command.startswith("her2d train all --recipe recipe.toml")
    card = (bundle / "MODEL_CARD.md").read_text()
    assert f"slide accuracy: {selected['accuracy']['value']:.4f}" in card
    assert manifest.parts.segmenter.sha256 in card


def test_a_study_changed_after_it_was_measured_is_not_shipped(trained, bundle, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(trained, study)
    manifest = study / "candidate" / "manifest.toml"
    manifest.write_text(manifest.read_text() + "\n# another\n")
    found = CliRunner().invoke(app, ["bundle", "build", str(tmp_path / "b"), "--study", str(study)])
    assert found.exit_code != 0
    assert "changed since they were evaluated" in str(found.exception)


def test_a_choice_made_after_it_was_measured_is_not_shipped(trained, bundle, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(trained, study)
    selected = json.loads((study / "model_selection.json").read_text())["integrator"]
    other = "lr" if selected == "rf" else "rf"
    her2d("train", "integrator", "--study", study, "--select-integrator", other)
    found = CliRunner().invoke(app, ["bundle", "build", str(tmp_path / "b"), "--study", str(study)])
    assert found.exit_code != 0
    assert "model_selection.json" in str(found.exception)
    assert not (tmp_path / "b").exists()


def test_networks_are_not_measured_on_slides_they_learned_from(trained, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(trained, study)
    cohort = Study(study).cohort()
    one = next(slide for slide in cohort if slide.split is Split.TRAIN)
    changed = one.model_copy(update={"split": Split.TEST})
    Study(study).write_cohort([changed if slide is one else slide for slide in cohort])
    found = CliRunner().invoke(app, ["evaluate", "--study", str(study)])
    assert found.exit_code != 0
    assert "holds the folds of other slides" in str(found.exception)


def test_the_daemons_pipeline_runs_it(prepared, bundle, tmp_path):
    (tmp_path / "config.toml").write_text(
        f'[bundle]\npath = "{bundle}"\n[inference]\nthreads = 1\n[ops]\nport = 0\n'
    )
    slide = sorted((prepared / "cohort" / "he").glob("*.tif"))[-1]
    (found,) = json.loads(her2d("scan", slide, "--config", tmp_path / "config.toml", "--json"))
    assert found["bundle_name"] == "ours"
    assert found["her2_status"] in ("positive", "negative", "indeterminate")
    assert found["tiles_tissue"] > 0


@pytest.fixture(scope="module")
def weighed(trained) -> ServedMil:
    return ServedMil(Study(trained), trained.parent / "engines" / "attention")


def test_a_bundle_of_the_baseline_serves_what_was_evaluated(weighed, tmp_path):
    """With an encoder of the users; the baseline of the demo bundle has the classifiers'."""
    assert load_bundle(weighed.bundle).mil.input.rows == 224
    assert_served_as_evaluated(weighed, tmp_path)


def test_its_manifest_states_what_was_measured_of_it(weighed):
    manifest = load_bundle(weighed.bundle).manifest
    report = json.loads((weighed.study.evaluation / "report.json").read_text())
    (row,) = (
        row for row in report["slides"] if (row["integrator"], row["set"]) == (MIL_ROW, "test")
    )
    assert manifest.name == "attention"
    assert manifest.measured.slide_accuracy == row["accuracy"]["value"]
    assert manifest.measured.tile_auroc is None
    decision = json.loads((weighed.study.mil / "decision.json").read_text())
    assert manifest.mil.threshold == decision["threshold"]
    assert len(manifest.mil.reference.attention) == 3
    assert "weighed by attention" in (weighed.bundle / "MODEL_CARD.md").read_text()


def test_her2d_bundle_verify_computes_its_reference_tiles(weighed):
    assert "is unaltered" in her2d("bundle", "verify", weighed.bundle)


def test_a_baseline_trained_again_after_it_was_measured_is_not_shipped(weighed, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(weighed.study.root, study)
    path = study / "mil" / "decision.json"
    path.write_text(path.read_text() + "\n")
    arguments = ["bundle", "build", str(tmp_path / "b"), "--study", str(study), "--method", "mil"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code != 0
    assert "mil/decision.json" in str(found.exception)
    assert not (tmp_path / "b").exists()


def test_a_study_without_a_baseline_has_no_bundle_of_it(trained, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(trained, study)
    shutil.rmtree(study / "mil")
    path = study / "evaluation" / "report.json"
    report = json.loads(path.read_text())
    report |= {"mil_models": {}, "mil_bundle_digest": None}
    path.write_text(json.dumps(report))
    arguments = ["bundle", "build", str(tmp_path / "b"), "--study", str(study)]
    found = CliRunner().invoke(app, [*arguments, "--method", "mil"])
    assert found.exit_code != 0
    assert "her2d train mil" in str(found.exception)
