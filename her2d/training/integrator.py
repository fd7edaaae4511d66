"""Training the integrated classifier (paper, section 4.5)."""

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier


def train_integrator(
    p_folds: NDArray[np.float32], strong: NDArray[np.bool_], *, seed: int
) -> RandomForestClassifier:
    """Fit a forest on (T, 5) fold probabilities of tiles that no fold has seen in training."""
    forest = RandomForestClassifier(
        50, max_depth=4, min_samples_leaf=5, class_weight="balanced", random_state=seed
    )
    return forest.fit(p_folds.astype(np.float64), strong.astype(np.int64))
