"""Lightning modules of the networks, with loss, validation metrics and optimiser."""

import math
from collections.abc import Sequence
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryRecall,
    MulticlassJaccardIndex,
)
from torchmetrics.utilities import dim_zero_cat

from her2d.research.networks.export import STRONG, Normalized
from her2d.research.training.recipe import FitRecipe, NetworkRecipe
from her2d.research.training.sampling import PADDING

MIOU, AUROC, SENSITIVITY = "miou", "auroc", "sensitivity"


class NetworkTraining(lightning.LightningModule):
    """A network with its optimiser; subclasses define the loss and the validation metrics.

    Args:
        network: The network.
        recipe: Optimiser and learning-rate schedule.
        seed: With the epoch, seeds everything random inside the network, such as dropout.
    """

    def __init__(self, network: nn.Module, recipe: FitRecipe, seed: int) -> None:
        super().__init__()
        self.network = network
        self.metrics: MetricCollection = self.make_metrics()
        self._recipe, self._seed = recipe, seed

    def make_metrics(self, *, synchronised: bool = True) -> MetricCollection:
        """Return fresh validation metrics, over the data of all processes if `synchronised`."""
        raise NotImplementedError

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self._seed * 10_007 + self.current_epoch)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.metrics.compute(), prog_bar=True)
        self.metrics.reset()

    def configure_optimizers(self) -> Any:
        recipe = self._recipe
        optimizer = torch.optim.Adam(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        if recipe.schedule == "constant":
            return optimizer
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            recipe.learning_rate,
            total_steps=int(self.trainer.estimated_stepping_batches),
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class TileTraining(NetworkTraining):
    """A network of tiles with its cross-entropy loss; subclasses define the validation metrics.

    Args:
        network: Maps float32 (N, 3, H, W) to logits float32 (N, 2, ...).
        recipe: Optimiser and learning-rate schedule.
        mean, std: Normalisation, on the 0..1 scale.
        seed: With the epoch, seeds everything random inside the network, such as dropout.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: NetworkRecipe,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
    ) -> None:
        super().__init__(network, recipe, seed)
        self.normalized = Normalized(mean, std)

    def update_metrics(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch to the validation metrics.

        Args:
            logits: float32 (N, 2, ...).
            targets: int64 (N, ...), class 0 or 1.
        """
        raise NotImplementedError

    def forward(self, tiles: Tensor) -> Tensor:
        """Map uint8 (N, H, W, 3) RGB tiles to logits float32 (N, 2, ...)."""
        # Channels-last input to narrow convolutions makes oneDNN's backward pass (torch 2.13.0 on
        # AVX-512) write outside its memory: the process may crash, or continue with corrupt data.
        return torch.as_tensor(self.network(self.normalized(tiles).contiguous()))

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        tiles, targets = batch
        loss = functional.cross_entropy(self(tiles), targets)
        self.log("loss", loss, prog_bar=True, batch_size=len(tiles))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        tiles, targets = batch
        self.update_metrics(self(tiles), targets)


class SegmenterTraining(TileTraining):
    """A segmenter, validated by MIoU over an epoch's pixels of scan (paper, section 4.3)."""

    def make_metrics(self, *, synchronised: bool = True) -> MetricCollection:
        miou = MulticlassJaccardIndex(
            num_classes=2, average="macro", ignore_index=PADDING, sync_on_compute=synchronised
        )
        return MetricCollection({MIOU: miou})

    def update_metrics(self, logits: Tensor, targets: Tensor) -> None:
        self.metrics.update(logits.argmax(dim=1), targets)


class Auroc(BinaryAUROC):
    """AUROC that is NaN if all targets are of one class, where torchmetrics returns 0."""

    def compute(self) -> Tensor:  # type: ignore[override]  # as in torchmetrics
        target = dim_zero_cat(self.target)
        if len(target) == 0 or bool((target == target[0]).all()):
            return torch.tensor(math.nan, device=target.device)
        return super().compute()


class ClassifierTraining(TileTraining):
    """A classifier, validated by AUROC and sensitivity over an epoch's tiles (section 4.4)."""

    def make_metrics(self, *, synchronised: bool = True) -> MetricCollection:
        # Torchmetrics combines the states of several processes itself.
        return MetricCollection(
            {
                AUROC: Auroc(sync_on_compute=synchronised),
                SENSITIVITY: BinaryRecall(sync_on_compute=synchronised),
            },
            compute_groups=False,
        )

    def update_metrics(self, logits: Tensor, targets: Tensor) -> None:
        self.metrics.update(logits.float().softmax(dim=1)[:, STRONG], targets)
