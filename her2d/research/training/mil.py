"""Train the baseline that learns from slide labels, on the same folds as the classifiers.

A network of each fold is validated, and stopped early, on the slides that the fold holds out. From
which probability on a slide is positive is chosen on slides that no network learned from.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MetricCollection

from her2d.bundle.loading import sha256_of
from her2d.method import FOLDS
from her2d.research.networks.attention_mil import AttentionMil, BagGraph, export_bag_graph
from her2d.research.networks.weights import load_weights
from her2d.research.training.bags import Bags, make_bags
from her2d.research.training.cohort import Split, Status
from her2d.research.training.encoders import ClassifierEncoder, Encoder, OnnxEncoder
from her2d.research.training.fit import WEIGHTS_FILE, FitResult, epoch_sampler, fit, read_result
from her2d.research.training.folds import FoldsError
from her2d.research.training.gate import gated_as_in_service
from her2d.research.training.leakage import check_leakage
from her2d.research.training.lightning_module import AUROC, Auroc, NetworkTraining
from her2d.research.training.model_selection import read_selection
from her2d.research.training.provenance import (
    PROVENANCE_FILE,
    Provenance,
    ProvenanceError,
    read_provenance,
)
from her2d.research.training.recipe import FitRecipe, MilRecipe, Recipe
from her2d.research.training.sampling import SampledTile
from her2d.research.training.study import Study, StudyError, write_text
from her2d.research.training.train import gated_training_tiles, open_tiles

GRAPH_FILE, DECISION_FILE = "attention.onnx", "decision.json"

Bag = tuple[Tensor, Tensor]
"""Features of a slide's tiles, float32 (T, channels), and 1.0 if it is positive, float32 (1,)."""
Progress = Callable[[str], None]


class MilDecision(BaseModel):
    """From which probability on the baseline calls a slide positive, as saved in decision.json.

    Attributes:
        threshold: The probability with the highest sum of sensitivity and specificity.
        chosen_on: The slides that it was chosen on, in words.
        slides, positive: Their number, and how many are positive.
        encoder: What made the features, for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float
    chosen_on: str
    slides: int
    positive: int
    encoder: str


class BagTraining(NetworkTraining):
    """A network of bags with its cross-entropy loss, validated by AUROC over an epoch's slides."""

    def make_metrics(self, *, synchronised: bool = True) -> MetricCollection:
        return MetricCollection({AUROC: Auroc(sync_on_compute=synchronised)})

    def training_step(self, bag: Bag, _: int) -> Tensor:
        features, positive = bag
        logit, _attention = self.network(features)
        loss = functional.binary_cross_entropy_with_logits(logit, positive)
        self.log("loss", loss, prog_bar=True, batch_size=1)
        return loss

    def validation_step(self, bag: Bag, _: int) -> None:
        features, positive = bag
        logit, _attention = self.network(features)
        self.metrics.update(logit.float().sigmoid(), positive.int())


@dataclass(frozen=True, slots=True)
class BagTask:
    """The slides that one fold's network is trained and validated on.

    Attributes:
        bags: All slides.
        features: Which of the feature sets the network reads.
        learned, held_out: Indices of the training and the validation slides, int64.
        monitor: The validation metric by which the best epoch is selected.
    """

    bags: Bags
    features: int
    learned: NDArray[np.int64]
    held_out: NDArray[np.int64]
    monitor: str = AUROC

    def digest(self, encoder: Encoder) -> str:
        """Return the SHA-256 of the encoder, the tiles, the labels and their use, in hex."""
        tiles = np.concatenate([*self.bags.tiles, np.zeros(0, np.int64)])
        data = self.bags.store.digest(tiles, self.bags.positive, self.learned, self.held_out)
        return hashlib.sha256(f"{encoder.digest}\n{data}\n{self.features}".encode()).hexdigest()

    def training_loader(
        self, provenance: Provenance, trainer: lightning.Trainer
    ) -> "DataLoader[Bag]":
        """Load a slide a step, with some of its tiles if it has many.

        Raises:
            FitError: Slides of both statuses are needed, and one is missing.
        """
        recipe = provenance.recipe
        assert isinstance(recipe, MilRecipe)
        of_second = self.bags.positive[self.learned]
        sampler = epoch_sampler(self.learned, of_second, provenance, trainer, tiles=None)
        return DataLoader(
            _SampledBags(self.bags, self.features, recipe.tiles_per_slide),
            batch_size=None,
            sampler=sampler,
        )

    def held_out_loader(self, recipe: FitRecipe) -> "DataLoader[Bag]":
        """Load the slides for validation, whole."""
        return DataLoader(_WholeBags(self.bags, self.features, self.held_out), batch_size=None)


class _SampledBags(Dataset[Bag]):
    def __init__(self, bags: Bags, features: int, most_tiles: int) -> None:
        self._bags, self._features, self._most = bags, features, most_tiles

    def __getitem__(self, sampled: SampledTile) -> Bag:
        features = self._bags.features(sampled.index)[:, self._features]
        if len(features) > self._most:
            rng = np.random.default_rng(sampled.seed)
            features = features[rng.choice(len(features), self._most, replace=False)]
        return torch.from_numpy(features.copy()), _target(self._bags, sampled.index)


class _WholeBags(Dataset[Bag]):
    def __init__(self, bags: Bags, features: int, indices: NDArray[np.int64]) -> None:
        self._bags, self._features, self._indices = bags, features, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, number: int) -> Bag:
        index = int(self._indices[number])
        features = self._bags.features(index)[:, self._features]
        return torch.from_numpy(features.copy()), _target(self._bags, index)


def _target(bags: Bags, index: int) -> Tensor:
    return torch.tensor([float(bags.slides[index].her2_status is Status.POSITIVE)])


@dataclass(frozen=True, slots=True)
class TrainedMil:
    """The baseline's five networks, what makes their features, and when a slide is positive."""

    graph: BagGraph
    encoder: Encoder
    decision: MilDecision
    channels: int

    def predict(self, features: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
        """Predict a slide.

        Args:
            features: Features of its T >= 1 tumour tiles, float32 (T, sets, channels).

        Returns:
            The mean probability of the five networks that the slide is positive, and their mean
            attention to each tile, float32 (T,), with a sum of 1.
        """
        with torch.inference_mode():
            p, attention = self.graph(torch.from_numpy(features))
        return float(p.mean()), attention.mean(dim=1).numpy()


def open_encoder(study: Study, recipe: Recipe) -> Encoder:
    """Open the recipe's encoder, or the features of the selected classifier.

    Raises:
        EncoderError: The recipe's encoder cannot be used.
        StudyError, FitError: No classifier is selected, or it learned from other slides.
    """
    if recipe.mil.encoder is not None:
        return OnnxEncoder(recipe.mil.encoder)
    classifier = read_selection(study)[0].classifier
    check_leakage(study, classifiers=[classifier])
    return ClassifierEncoder(study, classifier)


def train_mil(
    study: Study,
    recipe: Recipe,
    *,
    show_progress: bool = False,
    progress: Progress = lambda _: None,
) -> tuple[list[FitResult], MilDecision]:
    """Train the five networks, choose from which probability on a slide is positive, and export.

    Args:
        study: Study with selected models.
        recipe: How to train.
        show_progress: Show a progress bar.
        progress: Called with a description of each step.

    Returns:
        The result of each fold, and the decision.

    Raises:
        EncoderError, StudyError, FoldsError, FitError: It cannot be trained.
        OSError: The study cannot be written.
    """
    encoder = open_encoder(study, recipe)
    bags, folds = _training_bags(study, recipe, encoder, progress)
    tasks = _tasks(bags, folds, encoder)
    channels = bags.features(0).shape[2]
    results = []
    for fold, task in enumerate(tasks):
        provenance = _provenance(recipe, encoder, task, fold)
        torch.manual_seed(provenance.seed)
        network = _network(recipe.mil, channels)
        results.append(
            fit(
                study.mil / str(fold),
                f"attention MIL, fold {fold}",
                BagTraining(network, recipe.mil, provenance.seed),
                task,
                provenance,
                show_progress=show_progress,
            )
        )
    networks = _load_networks(study, recipe.mil, channels)
    decision = _decide(study, recipe, encoder, networks, tasks, progress)
    graph = BagGraph(networks, own_features=encoder.sets > 1)
    export_bag_graph(graph, study.mil / GRAPH_FILE, sets=encoder.sets, channels=channels)
    write_text(study.mil / DECISION_FILE, decision.model_dump_json(indent=1))
    return results, decision


def load_mil(study: Study, recipe: Recipe) -> TrainedMil | None:
    """Load the trained baseline, None if the study has none.

    Raises:
        EncoderError, StudyError, FoldsError, FitError: It cannot be used, or learned from other
            slides, labels, folds or features than the study has now.
    """
    path = study.mil / DECISION_FILE
    if not path.is_file():
        return None
    encoder = open_encoder(study, recipe)
    bags, folds = _training_bags(study, recipe, encoder, lambda _: None)
    for fold, task in enumerate(_tasks(bags, folds, encoder)):
        try:
            found = read_provenance(study.mil / str(fold) / PROVENANCE_FILE)
        except (ProvenanceError, OSError) as error:
            raise StudyError(f"{_stale(study)} ({error})") from error
        if found != _provenance(recipe, encoder, task, fold):
            raise StudyError(_stale(study))
    try:
        decision = MilDecision.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StudyError(f"{path} is not valid. Run `her2d train mil` again.") from error
    channels = bags.features(0).shape[2]
    networks = _load_networks(study, recipe.mil, channels)
    graph = BagGraph(networks, own_features=encoder.sets > 1)
    return TrainedMil(graph.eval(), encoder, decision, channels)


def mil_files(study: Study) -> dict[str, str]:
    """Compute the SHA-256 of the baseline's decision and networks; empty if it is not trained.

    Returns:
        Hexadecimal digests, by path relative to the study.

    Raises:
        OSError: A file is missing.
    """
    decision = study.mil / DECISION_FILE
    if not decision.is_file():
        return {}
    paths = [decision, *(study.mil / str(fold) / WEIGHTS_FILE for fold in range(FOLDS))]
    return {path.relative_to(study.root).as_posix(): sha256_of(path) for path in paths}


def choose_threshold(positive: NDArray[np.bool_], p: NDArray[np.floating]) -> float:
    """Choose the probability from which on a slide is positive.

    Args:
        positive: Whether each slide is positive, bool (S,), with both classes.
        p: Predicted probabilities, float (S,).

    Returns:
        The middle between two probabilities with the highest sum of sensitivity and specificity; of
        several, the nearest to 0.5.
    """
    values = np.unique(p)
    cuts = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2])
    called = p >= cuts[:, None]
    sums = called[:, positive].mean(axis=1) + (~called[:, ~positive]).mean(axis=1)
    best = cuts[np.isclose(sums, sums.max())]
    return float(best[np.abs(best - 0.5).argmin()])


def _stale(study: Study) -> str:
    return (
        f"The baseline in {study.mil} learned from other slides, labels, folds or features than the"
        " study has now. Remove the folder, and run `her2d train mil` again or evaluate without it."
    )


def _training_bags(
    study: Study, recipe: Recipe, encoder: Encoder, progress: Progress
) -> tuple[Bags, NDArray[np.int64]]:
    """Return the training slides with tumour tiles, and the fold in which each is held out."""
    tiles = gated_training_tiles(study, recipe)
    bags = make_bags(study, tiles.slides, tiles.store, encoder, progress=progress)
    return bags, np.array([tiles.fold[of_slide[0]] for of_slide in bags.tiles], np.int64)


def _tasks(bags: Bags, folds: NDArray[np.int64], encoder: Encoder) -> list[BagTask]:
    tasks = []
    for fold in range(FOLDS):
        held_out = np.flatnonzero(folds == fold)
        positive = int(bags.positive[held_out].sum())
        if not 0 < positive < len(held_out):
            raise FoldsError(
                f"Fold {fold} holds out {positive} positive and {len(held_out) - positive} negative"
                " slides with tumour tiles, and needs both for validation. Add slides."
            )
        features = fold if encoder.sets > 1 else 0
        tasks.append(BagTask(bags, features, np.flatnonzero(folds != fold), held_out))
    return tasks


def _provenance(recipe: Recipe, encoder: Encoder, task: BagTask, fold: int) -> Provenance:
    return Provenance(
        seed=recipe.seed * FOLDS + fold,
        recipe=recipe.mil,
        normalization=encoder.normalization,
        data=task.digest(encoder),
    )


def _network(recipe: MilRecipe, channels: int) -> AttentionMil:
    return AttentionMil(
        channels, hidden=recipe.hidden, attention=recipe.attention, dropout=recipe.dropout
    )


def _load_networks(study: Study, recipe: MilRecipe, channels: int) -> list[AttentionMil]:
    networks = []
    for fold in range(FOLDS):
        directory = study.mil / str(fold)
        read_result(directory)
        network = _network(recipe, channels)
        try:
            load_weights(network, directory / WEIGHTS_FILE)
        except ValueError as error:
            raise StudyError(f"Cannot load the network in {directory}: {error}.") from error
        networks.append(network.eval())
    return networks


def _decide(
    study: Study,
    recipe: Recipe,
    encoder: Encoder,
    networks: Sequence[AttentionMil],
    tasks: Sequence[BagTask],
    progress: Progress,
) -> MilDecision:
    """Choose the threshold on slides that were kept apart, or else on each fold's own."""
    apart = [slide for slide in study.cohort() if slide.split is Split.INTEGRATOR]
    store = gated_as_in_service(study, open_tiles(study, apart))
    bags = make_bags(study, apart, store, encoder, progress=progress)
    graph = BagGraph(networks, own_features=encoder.sets > 1)
    with torch.inference_mode():
        if 0 < bags.positive.sum() < len(bags.slides):
            positive, chosen_on = bags.positive, "held-out slides, mean of the five networks"
            p = [
                float(graph(torch.from_numpy(bags.features(number)))[0].mean())
                for number in range(len(bags.slides))
            ]
        else:
            positive = np.concatenate([task.bags.positive[task.held_out] for task in tasks])
            chosen_on = "training slides, each by the network that held it out"
            p = [
                float(network(features)[0].sigmoid())
                for network, task in zip(networks, tasks, strict=True)
                for features, _ in task.held_out_loader(recipe.mil)
            ]
    return MilDecision(
        threshold=choose_threshold(positive, np.array(p)),
        chosen_on=chosen_on,
        slides=len(p),
        positive=int(positive.sum()),
        encoder=encoder.name,
    )
