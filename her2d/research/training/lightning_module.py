"""The networks as Lightning trains them: loss, validation figures, optimiser."""

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
from her2d.research.training.recipe import NetworkRecipe

MIOU, AUROC, SENSITIVITY = "miou", "auroc", "sensitivity"


class TileTraining(lightning.LightningModule):
    """A network with its loss; subclasses say how it is judged.

    Args:
        network: float (N, 3, H, W) -> logits (N, 2, ...).
        recipe: optimiser and schedule.
        mean, std: normalisation, on the 0..1 scale.
        seed: what is random inside a network, such as dropout, follows from it and the epoch.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: NetworkRecipe,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.normalized = Normalized(mean, std)
        self.judged: MetricCollection = self.judges()
        self._recipe, self._seed = recipe, seed

    def judges(self, *, shared: bool = True) -> MetricCollection:
        """The validation figures, of all processes' tiles where `shared`."""
        raise NotImplementedError

    def judge(self, logits: Tensor, targets: Tensor) -> None:
        """Take a batch into the validation figures."""
        raise NotImplementedError

    def forward(self, tiles: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) -> logits (N, 2, ...)."""
        # Channels-last input to narrow convolutions makes oneDNN's backward pass (torch 2.13.0 on
        # AVX-512) write outside its memory, which ends the process or, worse, does not.
        return torch.as_tensor(self.network(self.normalized(tiles).contiguous()))

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self._seed * 10_007 + self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        tiles, targets = batch
        loss = functional.cross_entropy(self(tiles), targets)
        self.log("loss", loss, prog_bar=True, batch_size=len(tiles))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        tiles, targets = batch
        self.judge(self(tiles), targets)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.judged.compute(), prog_bar=True)
        self.judged.reset()

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


class SegmenterTraining(TileTraining):
    """Judged by MIoU over all pixels of an epoch (paper, section 4.3)."""

    def judges(self, *, shared: bool = True) -> MetricCollection:
        miou = MulticlassJaccardIndex(num_classes=2, average="macro", sync_on_compute=shared)
        return MetricCollection({MIOU: miou})

    def judge(self, logits: Tensor, targets: Tensor) -> None:
        self.judged.update(logits.argmax(dim=1), targets)


class _Auroc(BinaryAUROC):
    """NaN where only one class was seen: torchmetrics calls that 0, which is the worst there is."""

    def compute(self) -> Tensor:  # type: ignore[override]  # as in torchmetrics
        target = dim_zero_cat(self.target)
        if len(target) == 0 or bool((target == target[0]).all()):
            return torch.tensor(math.nan, device=target.device)
        return super().compute()


class ClassifierTraining(TileTraining):
    """Judged by AUROC and sensitivity over an epoch's tiles (paper, section 4.4)."""

    def judges(self, *, shared: bool = True) -> MetricCollection:
        # Sums of either kind are shared between processes by torchmetrics itself.
        return MetricCollection(
            {
                AUROC: _Auroc(sync_on_compute=shared),
                SENSITIVITY: BinaryRecall(sync_on_compute=shared),
            },
            compute_groups=False,
        )

    def judge(self, logits: Tensor, targets: Tensor) -> None:
        self.judged.update(logits.float().softmax(dim=1)[:, STRONG], targets)
