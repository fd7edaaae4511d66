"""Training one network until it is done, killed or not: checkpoints, resume, early stopping."""

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch.utils.data import DataLoader

from her2d.bundle.manifest import Normalization
from her2d.errors import Her2dError
from her2d.research.networks.weights import save_weights
from her2d.research.training.lightning_module import TileTraining
from her2d.research.training.provenance import Provenance, ProvenanceError, record_provenance
from her2d.research.training.recipe import NetworkRecipe, Recipe
from her2d.research.training.sampling import AugmentedTiles, EpochSampler, PlainTiles
from her2d.research.training.study import write_text
from her2d.research.training.tile_store import TileStore

WEIGHTS_FILE = "model.safetensors"
RESULT_FILE = "result.json"
_BEST, _LAST = "best.ckpt", "last.ckpt"
_EVAL_BATCH = 8


class FitError(Her2dError):
    """A network cannot be trained; `str(error)` says why."""


class FitResult(BaseModel):
    """What came of a network, as kept beside its weights. NaN figures are kept as null."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    recipe: NetworkRecipe
    seed: int
    best_epoch: int
    epochs: int
    validation: dict[str, float | None]
    """Figures of the best epoch on the held-out slides."""
    normalization: Normalization | None = None
    """Of what it saw; None is what her2d did not keep once: the recipe's."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one network learns from and is judged on.

    Attributes:
        target: what of a tile is learned.
        learned, held_out: int64, tiles of the store.
        of_second: bool, beside `learned`: tiles of the second class, for balanced draws.
        monitor: the validation figure whose best epoch is kept.
    """

    store: TileStore
    target: Literal["mask", "strong"]
    learned: NDArray[np.int64]
    of_second: NDArray[np.bool_]
    held_out: NDArray[np.int64]
    monitor: str

    def digest(self) -> str:
        """Of the tiles and labels, and of which tiles teach and which are held out."""
        return self.store.digest(self.learned, np.array([-1]), self.held_out)


class _Best(ModelCheckpoint):
    """The best epoch's checkpoint, also of a study that was moved while it trained.

    A checkpoint holds absolute paths; resumed elsewhere, Lightning would forget how good the best
    one was, and look for it where it no longer is.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(self.dirpath or ".") / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path")
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        moved = {"dirpath": self.dirpath, "best_k_models": best}
        super().load_state_dict(state_dict | moved | {key: here(state_dict[key]) for key in paths})


class _StopsAgain(EarlyStopping):
    """Early stopping that, resumed after it had stopped, does not train one more epoch."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def fit(
    directory: Path,
    name: str,
    model: TileTraining,
    task: Task,
    provenance: Provenance,
    *,
    show_progress: bool,
) -> FitResult:
    """Train `model`, or go on where an earlier call was ended; does nothing where it was done.

    Writes the best epoch's weights and then `result.json` into `directory`.

    Raises:
        FitError: the folder holds a network with another provenance, or no tile to learn from.
        OSError: the folder cannot be written.
    """
    done = _earlier_result(directory, name, provenance)
    if done is not None:
        return done
    recipe = provenance.recipe
    best = _Best(
        directory,
        Path(_BEST).stem,
        monitor=task.monitor,
        mode="max",
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    # What `save_last` saves is the last epoch that was the best, and a kill loses those since.
    newest = ModelCheckpoint(
        directory,
        Path(_LAST).stem,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    stop = _StopsAgain(task.monitor, mode="max", patience=recipe.patience, check_finite=False)
    with _quiet():
        trainer = _trainer(recipe, [best, newest, stop], show_progress)
        last = directory / _LAST
        trainer.fit(
            model,
            _training_loader(task, provenance, trainer),
            _held_out_loader(task, recipe),
            ckpt_path=last if last.is_file() else None,
            weights_only=True,
        )
    if trainer.interrupted:
        raise KeyboardInterrupt
    return _keep(directory, name, model, provenance, trainer, task)


def _earlier_result(directory: Path, name: str, provenance: Provenance) -> FitResult | None:
    """The result of an earlier call; also marks the folder as of this provenance."""
    try:
        record_provenance(directory, name, provenance)
    except ProvenanceError as error:
        raise FitError(str(error)) from error
    return read_result(directory) if (directory / RESULT_FILE).is_file() else None


def read_result(directory: Path) -> FitResult:
    """What came of the network in `directory`. Raises FitError where it is not there."""
    try:
        return FitResult.model_validate_json((directory / RESULT_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise FitError(f"There is no trained network in {directory}.") from error


def shared_normalization(results: Sequence[FitResult], recipe: Recipe) -> Normalization:
    """What all these networks were trained with, so that a bundle's graphs can apply it.

    Raises:
        FitError: they were trained with different ones.
    """
    first, *others = [result.normalization or recipe.normalization for result in results]
    if any(other != first for other in others):
        raise FitError(
            f"{', '.join(result.name for result in results)} were trained with different"
            " normalisations (the recipe's mean and std): train them anew with one."
        )
    return first


def _trainer(recipe: NetworkRecipe, callbacks: list[Any], show_progress: bool) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator=recipe.accelerator,
        devices=recipe.devices,
        strategy=DDPStrategy(find_unused_parameters=False) if recipe.devices > 1 else "auto",
        precision=recipe.precision,
        max_epochs=recipe.max_epochs,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=show_progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        deterministic="warn",
    )


def _training_loader(
    task: Task, provenance: Provenance, trainer: lightning.Trainer
) -> DataLoader[Any]:
    recipe, world = provenance.recipe, trainer.world_size
    try:
        sampler = EpochSampler(
            task.learned,
            task.of_second,
            sampling=recipe.sampling,
            tiles=recipe.tiles_per_epoch,
            seed=provenance.seed,
            rank=trainer.global_rank,
            world=world,
        )
    except ValueError as error:
        raise FitError(f"The network cannot be trained: {error}.") from error
    batch = max(2, min(recipe.batch // world, len(sampler)))
    return DataLoader(
        AugmentedTiles(task.store, task.target, crop=recipe.crop, stain_jitter=recipe.stain_jitter),
        batch,
        sampler=sampler,
        # A last batch of a single tile would stop batch normalisation.
        drop_last=True,
        num_workers=recipe.loader_workers,
    )


def _held_out_loader(task: Task, recipe: NetworkRecipe) -> DataLoader[Any]:
    return DataLoader(
        PlainTiles(task.store, task.target, task.held_out),
        _EVAL_BATCH,
        num_workers=recipe.loader_workers,
    )


def _keep(
    directory: Path,
    name: str,
    model: TileTraining,
    provenance: Provenance,
    trainer: lightning.Trainer,
    task: Task,
) -> FitResult:
    if trainer.is_global_zero:
        checkpoint = torch.load(directory / _BEST, map_location="cpu", weights_only=True)
        model.load_state_dict(checkpoint["state_dict"])
        result = FitResult(
            name=name,
            recipe=provenance.recipe,
            seed=provenance.seed,
            normalization=provenance.normalization,
            best_epoch=int(checkpoint["epoch"]),
            epochs=trainer.current_epoch,
            validation=_figures(model, task, provenance.recipe),
        )
        save_weights(model.to("cpu").network, directory / WEIGHTS_FILE)
        write_text(directory / RESULT_FILE, result.model_dump_json(indent=1))
    trainer.strategy.barrier()
    return read_result(directory)


def _figures(model: TileTraining, task: Task, recipe: NetworkRecipe) -> dict[str, float | None]:
    """The model's figures on the held-out tiles, found by this process alone."""
    model.judged = model.judges(shared=False)
    with _quiet():
        trainer = lightning.Trainer(
            accelerator=recipe.accelerator,
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        found = trainer.validate(model.to("cpu"), _held_out_loader(task, recipe), verbose=False)[0]
    return {key: None if math.isnan(v) else float(v) for key, v in found.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning tells of its tips and of what hardware there is."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
