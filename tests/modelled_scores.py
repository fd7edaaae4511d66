"""A model of five sub-classifiers' probabilities on the tumour tiles of a cohort."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.research.training.out_of_fold import FoldProbabilities


@dataclass(frozen=True)
class ModelledScores:
    """How the modelled sub-classifiers err.

    Attributes:
        separation: Distance between the classes in standard deviations of a tile's evidence; 2.33
            is a tile AUROC of 0.95.
        fold_noise: Standard deviation of what each fold adds.
        clustered: Share of slides on which the evidence of every tile is shifted towards strong.
        shift: Size of that shift.
    """

    separation: float = 2.33
    fold_noise: float = 0.3
    clustered: float = 0.0
    shift: float = 2.0

    def cohort(self, slides: int, seed: int) -> FoldProbabilities:
        """Draw slides of 20 to 119 tumour tiles, 12.5 % positive; about 12 % of tiles are strong.

        Args:
            slides: Number of slides; each is of another patient.
            seed: Seed of the draw.
        """
        rng = np.random.default_rng(seed)
        positive = np.arange(slides) % 8 == 0
        share = np.where(positive, rng.uniform(0.7, 1.0, slides), rng.uniform(0, 0.03, slides))
        shifted = rng.random(slides) < self.clustered
        slide = np.repeat(np.arange(slides), rng.integers(20, 120, slides))
        strong = rng.random(len(slide)) < share[slide]
        evidence = rng.normal(self.separation * strong, 1.0) + self.shift * shifted[slide]
        return FoldProbabilities(
            self._probabilities(evidence, rng),
            strong,
            np.char.add("P", slide.astype(str)),
            np.char.add("S", slide.astype(str)),
            rng.integers(30_000, 260_000, len(slide)),
        )

    def _probabilities(
        self, evidence: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        seen = evidence[:, None] + rng.normal(0, self.fold_noise, (len(evidence), 5))
        odds = np.log(0.12 / 0.88) + self.separation * (seen - self.separation / 2)
        return (1 / (1 + np.exp(-odds))).astype(np.float32)
