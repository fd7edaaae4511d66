"""Several processes train one network, as on several GPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.study import Study
from her2d.research.training.tile_store import PreparedTile, slide_path, write_slide

RECIPE = """\
segmenters = ["unet", "segnet"]
[segmenter]
batch = 4
max_epochs = 1
crop = 32
tiles_per_epoch = 8
width_multiplier = 0.0625
devices = 2
accelerator = "cpu"
loader_workers = 0
[integrator]
kept_apart = 0
"""


WRITE_OFTEN = """
import pathlib, sys
from her2d.research.training.study import write_text
for number in range(200):
    write_text(pathlib.Path(sys.argv[1]), f"{number}\\n")
"""


def test_processes_may_write_the_same_file_at_once(tmp_path):
    command = [sys.executable, "-c", WRITE_OFTEN, tmp_path / "folds.json"]
    writers = [subprocess.Popen(command) for _ in range(2)]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    assert (tmp_path / "folds.json").read_text() == "199\n"
    assert [path.name for path in tmp_path.iterdir()] == ["folds.json"]


@pytest.fixture
def study(tmp_path) -> Study:
    """Ten slides of two tiles, half tumour."""
    found = Study(tmp_path / "study")
    slides = [
        CohortSlide(
            name=f"S{number}",
            patient=f"P{number}",
            he_path=Path(),
            ihc_path=None,
            annotation_path=Path(),
            her2_status=Status.POSITIVE if number % 2 else Status.NEGATIVE,
            split=Split.TRAIN,
            morphology={},
        )
        for number in range(10)
    ]
    found.write_cohort(slides)
    rng = np.random.default_rng(0)
    tumor = np.zeros((512, 512), np.uint8)
    tumor[:256] = 1
    found.tiles.mkdir()
    for slide in slides:
        tiles = [
            PreparedTile(c, 0, rng.integers(0, 255, (512, 512, 3), np.uint8), tumor, 0)
            for c in range(2)
        ]
        write_slide(
            slide_path(found.tiles, slide.name), iter(tiles), expression_from="none", fingerprint={}
        )
    return found


@pytest.fixture
def train(study, tmp_path):
    """Return a function that runs `her2d train segmenter` and returns its lines of output."""
    (tmp_path / "recipe.toml").write_text(RECIPE)

    def train(*arguments: str) -> list[str]:
        command = [sys.executable, "-m", "her2d", "train", "segmenter", *arguments]
        ended = subprocess.run(
            [*command, "--study", study.root, "--recipe", tmp_path / "recipe.toml"],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.splitlines()

    return train


@pytest.mark.slow
def test_two_processes_train_one_network_after_the_other(study, train):
    assert [line.split(":")[0] for line in train()] == ["unet", "segnet"]
    for name in ("unet", "segnet"):
        result = json.loads((study.segmenter(name) / "result.json").read_text())
        assert result["recipe"]["devices"] == 2
        assert (study.segmenter(name) / "model.safetensors").is_file()
    assert not list(study.root.rglob("*.part"))


@pytest.mark.slow
def test_a_network_trains_in_mixed_precision_and_is_kept_in_full(study, train):
    train("unet", "--set", "segmenter.devices=1", "--set", "segmenter.precision=bf16-mixed")
    result = json.loads((study.segmenter("unet") / "result.json").read_text())
    assert result["recipe"]["precision"] == "bf16-mixed"
    weights = load_file(study.segmenter("unet") / "model.safetensors")
    assert {w.dtype for w in weights.values() if w.is_floating_point()} == {torch.float32}
    assert all(w.isfinite().all() for w in weights.values())
