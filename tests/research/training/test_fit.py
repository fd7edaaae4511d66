"""Training of one network with its provenance, its best epoch and its resumption."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from her2d.bundle.manifest import Normalization
from her2d.research.training.fit import (
    WEIGHTS_FILE,
    FitError,
    FitResult,
    Task,
    fit,
    read_result,
    recipe_kept_if_refused,
    shared_normalization,
)
from her2d.research.training.hardware import HardwareError
from her2d.research.training.lightning_module import AUROC, ClassifierTraining
from her2d.research.training.provenance import Provenance
from her2d.research.training.recipe import NetworkRecipe, Recipe, study_recipe
from her2d.research.training.study import FolderHeldError, StudyError
from her2d.research.training.tile_store import (
    PreparedTile,
    TileStore,
    slide_path,
    write_slide,
)

HOW = NetworkRecipe(
    learning_rate=0.1, batch=4, max_epochs=2, crop=32, accelerator="cpu", loader_workers=0
)
DARK = Normalization(mean=(0.2, 0.2, 0.2), std=(0.1, 0.1, 0.1))


def provenance(**changes) -> Provenance:
    usual = {"seed": 3, "recipe": HOW, "normalization": Recipe().normalization, "data": "0" * 64}
    return Provenance(**usual | changes)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> TileStore:
    """Two slides of four tumour tiles, of which the dark ones are strong."""
    folder = tmp_path_factory.mktemp("tiles")
    for name in ("S1", "S2"):
        tiles = [
            PreparedTile(
                column,
                0,
                np.full((512, 512, 3), 60 if column % 2 else 200, np.uint8),
                np.ones((512, 512), np.uint8),
                512 * 512 * (column % 2),
            )
            for column in range(4)
        ]
        write_slide(slide_path(folder, name), iter(tiles), expression_from="none", fingerprint={})
    return TileStore(folder, ["S1", "S2"])


def trained(directory: Path, store: TileStore, of: Provenance) -> FitResult:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    seen = of.normalization
    learned = np.arange(4)
    task = Task(
        store=store,
        target="strong",
        learned=learned,
        of_second=store.table.strong[learned],
        held_out=np.arange(4, 8),
        monitor=AUROC,
    )
    model = ClassifierTraining(network, of.recipe, seen.mean, seen.std, of.seed)
    return fit(directory, "net", model, task, of, show_progress=False)


def test_a_result_states_what_it_was_trained_with(tmp_path, store):
    found = trained(tmp_path, store, provenance(normalization=DARK))
    assert read_result(tmp_path) == found
    assert (found.seed, found.recipe, found.normalization) == (3, HOW, DARK)


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({"seed": 4}, "another seed"),
        ({"recipe": HOW.model_copy(update={"max_epochs": 3})}, "another recipe"),
        ({"normalization": DARK}, "another normalisation"),
        ({"data": "1" * 64}, "other tiles, labels or folds"),
    ],
)
def test_a_folder_of_another_provenance_is_refused_and_the_difference_named(
    tmp_path, store, changes, other
):
    trained(tmp_path, store, provenance())
    with pytest.raises(FitError, match=other):
        trained(tmp_path, store, provenance(**changes))


class _EndedError(Exception):
    """Training was interrupted."""


class _Scripted(ClassifierTraining):
    """A classifier with a given AUROC in each epoch, whose weights are the number of the epoch.

    Training is interrupted at the start of epoch `ends_in`.
    """

    def __init__(self, script: list[float], ends_in: int | None, of: Provenance) -> None:
        network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        super().__init__(network, of.recipe, (0, 0, 0), (1, 1, 1), of.seed)
        self._script, self._ends_in = script, ends_in

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == self._ends_in:
            raise _EndedError

    def on_validation_epoch_end(self) -> None:
        self.metrics.reset()
        if self.trainer.state.fn == "fit":
            self.network[2].bias.data.fill_(self.current_epoch)
            self.log(AUROC, self._script[self.current_epoch])


def scripted(
    directory: Path, store: TileStore, script: list[float], *, ends_in: int | None = None, **how
) -> FitResult:
    of = provenance(recipe=HOW.model_copy(update={"max_epochs": len(script)} | how))
    learned = np.arange(4)
    task = Task(store, "strong", learned, store.table.strong[learned], np.arange(4, 8), AUROC)
    return fit(directory, "net", _Scripted(script, ends_in, of), task, of, show_progress=False)


def test_the_weights_of_the_best_epoch_are_saved_not_of_the_last(tmp_path, store):
    found = scripted(tmp_path, store, [0.6, 0.9, 0.7])
    assert (found.best_epoch, found.epochs) == (1, 3)
    assert load_file(tmp_path / WEIGHTS_FILE)["2.bias"].tolist() == [1.0, 1.0]


def test_training_stops_without_improvement(tmp_path, store):
    found = scripted(tmp_path, store, [0.6, 0.9, 0.7, 0.8, 0.95], patience=2)
    assert (found.best_epoch, found.epochs) == (1, 4)


def test_interrupted_training_resumes_after_its_last_epoch_even_if_that_was_not_the_best(
    tmp_path, store
):
    script = [0.9, 0.6, 0.7, 0.8]
    with pytest.raises(_EndedError):
        scripted(tmp_path, store, script, ends_in=3)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 2
    found = scripted(tmp_path, store, script)
    assert (found.best_epoch, found.epochs) == (0, 4)
    assert load_file(tmp_path / WEIGHTS_FILE)["2.bias"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("ends_in", [1, 2, 3])
def test_a_study_moved_during_training_resumes_with_its_best_epoch(tmp_path, store, ends_in):
    script = [0.6, 0.9, 0.7, 0.8]
    with pytest.raises(_EndedError):
        scripted(tmp_path / "here", store, script, ends_in=ends_in)
    (tmp_path / "here").rename(tmp_path / "there")
    found = scripted(tmp_path / "there", store, script)
    assert (found.best_epoch, found.epochs) == (1, 4)
    assert not (tmp_path / "here").exists()


def labelled(
    folder: Path, strong_pixels: int, *, grey: int = 255, tumor: NDArray[np.uint8] | None = None
) -> TileStore:
    pixels = np.full((512, 512, 3), grey, np.uint8)
    mask = np.ones((512, 512), np.uint8) if tumor is None else tumor
    tiles = [PreparedTile(0, 0, pixels, mask, strong_pixels)]
    write_slide(slide_path(folder, "S1"), iter(tiles), expression_from="none", fingerprint={})
    return TileStore(folder, ["S1"])


def test_labels_and_folds_have_a_digest(tmp_path, store):
    def digest(of: TileStore, learned: list[int], held_out: list[int]) -> str:
        tiles = [np.array(indices, np.int64) for indices in (learned, held_out)]
        none = np.zeros(len(learned), bool)
        return Task(of, "strong", tiles[0], none, tiles[1], AUROC).digest()

    weak = labelled(tmp_path, 0)
    assert digest(weak, [0], []) == digest(labelled(tmp_path, 0), [0], [])
    assert digest(weak, [0], []) != digest(labelled(tmp_path, 512 * 512), [0], [])
    assert digest(store, [0, 1], [2]) != digest(store, [0], [1, 2])


def test_a_scan_with_other_pixels_has_another_digest(tmp_path):
    before = labelled(tmp_path, 0, grey=200).digest()
    assert labelled(tmp_path, 0, grey=201).digest() != before
    assert labelled(tmp_path, 0, grey=200).digest() == before


def test_a_mask_that_was_drawn_elsewhere_has_another_digest(tmp_path):
    above = np.zeros((512, 512), np.uint8)
    above[:256] = 1
    before = labelled(tmp_path, 0, tumor=above).digest()
    assert labelled(tmp_path, 0, tumor=above[::-1]).digest() != before


def test_networks_of_different_normalisations_do_not_share_one():
    def result(seen: Normalization) -> FitResult:
        return FitResult(
            name="net",
            recipe=HOW,
            seed=1,
            best_epoch=0,
            epochs=1,
            validation={},
            normalization=seen,
        )

    assert shared_normalization([result(DARK), result(DARK)]) == DARK
    with pytest.raises(FitError, match="different normalisations"):
        shared_normalization([result(DARK), result(Recipe().normalization)])


def test_a_recipe_that_a_trained_network_refuses_does_not_replace_the_studys(tmp_path, store):
    study_recipe(tmp_path, None, ("seed=3",))
    trained(tmp_path / "a", store, provenance())

    def train_with(seed: int) -> None:
        with recipe_kept_if_refused(tmp_path):
            changed = study_recipe(tmp_path, None, (f"seed={seed}",))
            trained(tmp_path / "a", store, provenance(seed=changed.seed))

    with pytest.raises(FitError, match="another seed"):
        train_with(4)
    assert study_recipe(tmp_path, None).seed == 3


@pytest.mark.parametrize("refusal", [FolderHeldError("held"), HardwareError("too much memory")])
def test_nor_does_one_whose_training_is_not_begun(tmp_path, refusal):
    study_recipe(tmp_path, None, ("seed=3",))

    def train_with(seed: int) -> None:
        with recipe_kept_if_refused(tmp_path):
            study_recipe(tmp_path, None, (f"seed={seed}",))
            raise refusal

    with pytest.raises(type(refusal)):
        train_with(4)
    assert study_recipe(tmp_path, None).seed == 3


def test_a_checkpoint_that_is_cut_short_is_refused_in_words(tmp_path, store):
    trained(tmp_path, store, provenance())
    (tmp_path / "result.json").unlink()
    last = tmp_path / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(FitError, match=r"last\.ckpt is damaged\. Remove it"):
        trained(tmp_path, store, provenance())


def test_two_commands_do_not_train_a_network_at_once(tmp_path, store):
    held = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX)"
    command = [sys.executable, "-c", f"{held}; print(flush=True); input()", tmp_path / ".lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(StudyError, match="Another her2d command is writing"):
            trained(tmp_path, store, provenance())
        other.communicate(b"\n")
