"""The multiple-instance baseline, as it is evaluated and as a daemon computes it."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from her2d.bundle.loading import load_bundle
from her2d.cli.app import app
from her2d.db.connection import open_readonly
from her2d.research.evaluation.evaluate import evaluation_slides
from her2d.research.evaluation.mil import MilPredictions
from her2d.research.evaluation.slide_predictions import IntegratorPrediction, predict_slides
from her2d.research.training.mil import load_mil
from her2d.research.training.recipe import study_recipe
from her2d.research.training.study import Study


@dataclass(frozen=True)
class ServedMil:
    """A study with the baseline that learns from slide labels, and that as a bundle."""

    study: Study
    bundle: Path

    def evaluated(self) -> dict[str, IntegratorPrediction]:
        """What the evaluation predicts of each test slide by the baseline, by its file's name."""
        mil = load_mil(self.study, study_recipe(self.study.root, None))
        assert mil is not None
        predictions = MilPredictions(self.study, mil)
        slides = evaluation_slides(self.study.cohort())
        return {
            found.slide.he_path.name: predictions.predict(found)
            for found in predict_slides(load_bundle(self.study.candidate), slides)
        }

    def served(self, folder: Path) -> dict[str, dict[str, Any]]:
        """What `her2d scan` records of each test slide by the bundle, by its file's name."""
        config = folder / "config.toml"
        config.write_text(
            f'[bundle]\npath = "{self.bundle}"\n[inference]\nthreads = 1\n[ops]\nport = 0\n'
            f'[results]\ndatabase = "{folder / "her2d.sqlite"}"\n'
            f'heatmaps = "{folder / "heatmaps"}"\n'
        )
        slides = [slide.he_path for slide in evaluation_slides(self.study.cohort())]
        arguments = ["scan", *slides, "--config", config]
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        with closing(open_readonly(folder / "her2d.sqlite")) as db:
            return {row["file_name"]: row for row in db.query("select * from slide_results")}


def assert_served_as_evaluated(mil: ServedMil, folder: Path) -> None:
    evaluated, served = mil.evaluated(), mil.served(folder)
    assert evaluated.keys() == served.keys()
    called = {name: row for name, row in served.items() if row["her2_status"] != "indeterminate"}
    assert called
    for name, row in called.items():
        assert row["method"] == "mil"
        assert row["high_expression_percent"] is None
        assert row["positive_probability"] == pytest.approx(evaluated[name].fraction, abs=1e-6)
    assert {name: row["her2_status"] for name, row in served.items()} == {
        name: prediction.predicted for name, prediction in evaluated.items()
    }
