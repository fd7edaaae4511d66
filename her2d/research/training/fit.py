"""Train one network with checkpoints, resumption and early stopping."""

import logging
import math
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch.utils.data import DataLoader

from her2d.bundle.manifest import Environment, Normalization
from her2d.errors import Her2dError
from her2d.research.networks.weights import save_weights
from her2d.research.training.environment import training_environment
from her2d.research.training.folds import FoldsError
from her2d.research.training.hardware import HardwareError, loader_workers, trained_devices
from her2d.research.training.lightning_module import NetworkTraining
from her2d.research.training.provenance import Provenance, ProvenanceError, record_provenance
from her2d.research.training.recipe import RECIPE_FILE, FitRecipe, MilRecipe, NetworkRecipe
from her2d.research.training.sampling import AugmentedTiles, EpochSampler, PlainTiles
from her2d.research.training.study import FolderHeldError, hold_folder, write_text
from her2d.research.training.tile_store import TileStore

WEIGHTS_FILE = "model.safetensors"
RESULT_FILE = "result.json"
_BEST, _LAST = "best.ckpt", "last.ckpt"
_EVAL_BATCH = 8


class FitError(Her2dError):
    """A network cannot be trained or read; `str(error)` says why."""


class FitResult(BaseModel):
    """The result of training a network, saved as result.json beside its weights.

    Metrics that are NaN are saved as null.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    recipe: NetworkRecipe | MilRecipe
    seed: int
    best_epoch: int
    epochs: int
    validation: dict[str, float | None]
    """Metrics of the best epoch on the held-out slides."""
    normalization: Normalization
    """Normalisation of the tiles that the network was trained on."""
    environment: Environment | None = None
    """What the network was trained on; None if an earlier version of her2d trained it."""

    @property
    def width_multiplier(self) -> float:
        """Width of a network of tiles; others have none."""
        return self.recipe.width_multiplier if isinstance(self.recipe, NetworkRecipe) else 1.0


class FitData(Protocol):
    """What a network is trained and validated on.

    Attributes:
        monitor: The validation metric by which the best epoch is selected.
    """

    @property
    def monitor(self) -> str: ...

    def training_loader(
        self, provenance: Provenance, trainer: lightning.Trainer
    ) -> DataLoader[Any]: ...

    def held_out_loader(self, recipe: Any) -> DataLoader[Any]: ...


@dataclass(frozen=True, slots=True)
class Task:
    """The tiles that one network is trained and validated on.

    Attributes:
        store: The prepared tiles.
        target: `mask` to learn the tumour mask, `strong` to learn the class of the tile.
        learned: Indices of the training tiles in the store, int64 (T,).
        of_second: Whether each training tile is of the second class, bool (T,), for balanced
            sampling.
        held_out: Indices of the validation tiles in the store, int64 (V,).
        monitor: The validation metric by which the best epoch is selected.
    """

    store: TileStore
    target: Literal["mask", "strong"]
    learned: NDArray[np.int64]
    of_second: NDArray[np.bool_]
    held_out: NDArray[np.int64]
    monitor: str

    def digest(self) -> str:
        """Return the SHA-256 of tiles, labels and their use for training or validation, in hex."""
        return self.store.digest(self.learned, np.array([-1]), self.held_out)

    def training_loader(
        self, provenance: Provenance, trainer: lightning.Trainer
    ) -> DataLoader[Any]:
        """Load the tiles of an epoch for one of the trainer's processes.

        Raises:
            FitError: No tile can be learned from.
        """
        recipe, world = provenance.recipe, trainer.world_size
        assert isinstance(recipe, NetworkRecipe)
        sampler = epoch_sampler(
            self.learned, self.of_second, provenance, trainer, tiles=recipe.tiles_per_epoch
        )
        batch = max(2, min(recipe.batch // world, len(sampler)))
        return DataLoader(
            AugmentedTiles(
                self.store, self.target, crop=recipe.crop, stain_jitter=recipe.stain_jitter
            ),
            batch,
            sampler=sampler,
            # Batch normalisation fails on a last batch of a single tile.
            drop_last=True,
            num_workers=loader_workers(recipe),
        )

    def held_out_loader(self, recipe: FitRecipe) -> DataLoader[Any]:
        """Load the tiles for validation, as they are."""
        return DataLoader(
            PlainTiles(self.store, self.target, self.held_out),
            _EVAL_BATCH,
            num_workers=loader_workers(recipe),
        )


def epoch_sampler(
    learned: NDArray[np.int64],
    of_second: NDArray[np.bool_],
    provenance: Provenance,
    trainer: lightning.Trainer,
    *,
    tiles: int | None,
) -> EpochSampler:
    """Return the sampler of what one of the trainer's processes learns from in each epoch.

    Args:
        learned: Indices of what to sample from, int64 (T,).
        of_second: Whether each is of the second class, bool (T,).
        provenance: Its recipe and seed determine the samples.
        trainer: The trainer.
        tiles: Samples of an epoch; None means T.

    Raises:
        FitError: Both classes are needed, and one is missing.
    """
    try:
        return EpochSampler(
            learned,
            of_second,
            sampling=provenance.recipe.sampling,
            tiles=tiles,
            seed=provenance.seed,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )
    except ValueError as error:
        raise FitError(f"Cannot train the network: {error}.") from error


class _Best(ModelCheckpoint):
    """Checkpoint of the best epoch that survives moving the study between two runs.

    A checkpoint holds absolute paths. Resumed in another folder, Lightning would forget the best
    score and look for the best checkpoint in the old folder.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(self.dirpath or ".") / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path")
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        moved = {"dirpath": self.dirpath, "best_k_models": best}
        super().load_state_dict(state_dict | moved | {key: here(state_dict[key]) for key in paths})


class _StopsAgain(EarlyStopping):
    """Early stopping that does not train another epoch when resumed after it had stopped."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def fit(
    directory: Path,
    name: str,
    model: NetworkTraining,
    task: FitData,
    provenance: Provenance,
    *,
    show_progress: bool,
) -> FitResult:
    """Train a network, or resume where an earlier call was interrupted.

    Writes the weights of the best epoch and then result.json into `directory`. Returns at once if
    an earlier call finished.

    Args:
        directory: Folder of the network; created if it is missing.
        name: Name of the network, for messages and the result.
        model: The network with its loss and metrics.
        task: Training and validation data.
        provenance: What the network is trained from; its recipe controls the training.
        show_progress: Show a progress bar.

    Returns:
        The result, with the metrics of the best epoch.

    Raises:
        FitError: The folder holds a network of another provenance, or there are no tiles to learn
            from.
        StudyError: Another process trains the network.
        OSError: The folder cannot be written.
    """
    # With several GPUs, only the process that the user started writes.
    with hold_folder(directory) if is_rank_zero() else nullcontext():
        return _fit(directory, name, model, task, provenance, show_progress=show_progress)


def _fit(
    directory: Path,
    name: str,
    model: NetworkTraining,
    task: FitData,
    provenance: Provenance,
    *,
    show_progress: bool,
) -> FitResult:
    earlier = _earlier_result(directory, name, provenance)
    if earlier is not None:
        return earlier
    recipe = provenance.recipe
    best = _Best(
        directory,
        Path(_BEST).stem,
        monitor=task.monitor,
        mode="max",
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    # `save_last` would save only when an epoch is the best, so a kill would lose all later epochs.
    newest = ModelCheckpoint(
        directory,
        Path(_LAST).stem,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    stop = _StopsAgain(task.monitor, mode="max", patience=recipe.patience, check_finite=False)
    with _quiet():
        trainer = _trainer(recipe, [best, newest, stop], show_progress)
        last = _checkpoint(directory / _LAST)
        trainer.fit(
            model,
            task.training_loader(provenance, trainer),
            task.held_out_loader(recipe),
            ckpt_path=last,
            weights_only=True,
        )
    if trainer.interrupted:
        raise KeyboardInterrupt
    return _keep(directory, name, model, provenance, trainer, task)


@contextmanager
def recipe_kept_if_refused(study: Path) -> Iterator[None]:
    """Put a study's recipe back if what is trained refuses the one that replaced it in the block.

    Otherwise the study's networks would refuse every later command too.

    Args:
        study: Folder of the study.
    """
    saved = study / RECIPE_FILE
    earlier = saved.read_text() if saved.is_file() else None
    try:
        yield
    except (FitError, FoldsError, FolderHeldError, HardwareError) as error:
        refused = not isinstance(error, FitError) or isinstance(error.__cause__, ProvenanceError)
        if refused and earlier is not None:
            write_text(saved, earlier)
        raise


def _earlier_result(directory: Path, name: str, provenance: Provenance) -> FitResult | None:
    """Return the result of an earlier call, if any, and check or record the provenance."""
    try:
        record_provenance(directory, name, provenance)
    except ProvenanceError as error:
        raise FitError(str(error)) from error
    return read_result(directory) if (directory / RESULT_FILE).is_file() else None


def _checkpoint(path: Path) -> Path | None:
    """Return the checkpoint to resume from, or None if there is none.

    Raises:
        FitError: It is damaged, such as by a full disk.
    """
    if not path.is_file():
        return None
    if not zipfile.is_zipfile(path):
        raise FitError(f"{path} is damaged. Remove it, and the network is trained from the start.")
    return path


def read_result(directory: Path) -> FitResult:
    """Read the result of the network in `directory`.

    Raises:
        FitError: The network is not trained, or its result is not valid.
    """
    try:
        return FitResult.model_validate_json((directory / RESULT_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise FitError(f"{directory} does not hold a trained network.") from error


def shared_normalization(results: Sequence[FitResult]) -> Normalization:
    """Return the normalisation that all these networks were trained with.

    Raises:
        FitError: They were trained with different normalisations, which one bundle cannot apply.
    """
    first, *others = [result.normalization for result in results]
    if any(other != first for other in others):
        raise FitError(
            f"{', '.join(result.name for result in results)} were trained with different"
            " normalisations (the recipe's mean and std). Train them again with the same one."
        )
    return first


def _trainer(recipe: FitRecipe, callbacks: list[Any], show_progress: bool) -> lightning.Trainer:
    devices = trained_devices(recipe)
    return lightning.Trainer(
        accelerator=recipe.accelerator,
        devices=devices,
        strategy=DDPStrategy(find_unused_parameters=False) if devices > 1 else "auto",
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


def _keep(
    directory: Path,
    name: str,
    model: NetworkTraining,
    provenance: Provenance,
    trainer: lightning.Trainer,
    task: FitData,
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
            validation=_validation_metrics(model, task, provenance.recipe),
            environment=training_environment(trainer.strategy.root_device),
        )
        save_weights(model.to("cpu").network, directory / WEIGHTS_FILE)
        write_text(directory / RESULT_FILE, result.model_dump_json(indent=1))
    trainer.strategy.barrier()
    return read_result(directory)


def _validation_metrics(
    model: NetworkTraining, task: FitData, recipe: FitRecipe
) -> dict[str, float | None]:
    """Compute the metrics on the held-out tiles in this process alone."""
    model.metrics = model.make_metrics(synchronised=False)
    with _quiet():
        trainer = lightning.Trainer(
            accelerator=recipe.accelerator,
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        found = trainer.validate(model.to("cpu"), task.held_out_loader(recipe), verbose=False)[0]
    return {key: None if math.isnan(v) else float(v) for key, v in found.items()}


def is_rank_zero() -> bool:
    """Return whether this is the process that the user started.

    With several GPUs, Lightning starts the whole command again for each further GPU; those
    processes only train networks.
    """
    return int(getattr(rank_zero_only, "rank", 0)) == 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning, which logs tips and the available hardware."""
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
