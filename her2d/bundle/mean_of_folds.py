"""The mean of the five sub-classifiers' probabilities, an integrator without parameters.

The paper tests eight integrators that are fitted (section 4.5); this one is their baseline. It is
a separate module because it needs scikit-learn, which is imported when an integrator is loaded.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from her2d.method import FOLDS


class MeanOfFolds(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """A classifier over five fold probabilities that predicts their mean."""

    def fit(self, p_folds: Any, strong: Any, sample_weight: Any = None) -> Self:
        """Return the classifier; there is nothing to fit.

        Args:
            p_folds: p(strong) of the five sub-classifiers, (T, 5).
            strong: Whether each tile is strong, (T,); not used.
            sample_weight: Not used.
        """
        self.classes_ = np.array([0, 1])
        self.n_features_in_ = FOLDS
        return self

    def predict_proba(self, p_folds: Any) -> NDArray[np.float64]:
        """Return the probabilities of weak and strong, float64 (T, 2)."""
        strong = np.asarray(p_folds, np.float64).mean(axis=1)
        return np.stack([1 - strong, strong], axis=1)

    def predict(self, p_folds: Any) -> NDArray[np.int64]:
        """Return the more probable class of each tile, int64 (T,)."""
        return (self.predict_proba(p_folds)[:, 1] > 0.5).astype(np.int64)
