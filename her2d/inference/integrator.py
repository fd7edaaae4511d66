"""The integrated classifier: from the five folds' probabilities to a tile's class (paper, 4.5)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.manifest import Bundle, load_integrator


@dataclass(frozen=True, slots=True)
class Integrated:
    """The integrator's result for T tumour tiles.

    Attributes:
        p_strong: float32 (T,), probability of the class strong.
        strong: bool (T,), whether the class is strong.
    """

    p_strong: NDArray[np.float32]
    strong: NDArray[np.bool_]


class Integrator:
    """The bundle's random forest.

    Raises:
        BundleError: it cannot be loaded.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._model: Any = load_integrator(bundle)
        # On a forest this small threads cost more than they save, and joblib's outlive the call.
        self._model.n_jobs = 1

    def integrate(self, p_folds: NDArray[np.float32]) -> Integrated:
        """Classify T tumour tiles.

        The class is the more probable one; on a tie it is weak, as by scikit-learn's `predict`.

        Args:
            p_folds: float32 (T, 5), p(strong) by each of the five folds.
        """
        if len(p_folds) == 0:
            return Integrated(np.empty(0, np.float32), np.empty(0, np.bool_))
        p: NDArray[np.float64] = self._model.predict_proba(p_folds)[:, 1]
        return Integrated(p.astype(np.float32), np.asarray(p > 0.5, dtype=np.bool_))
