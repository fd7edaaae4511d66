"""The integrated classifier: five fold probabilities -> one call for a tile (paper, 4.5)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.manifest import Bundle, load_integrator


@dataclass(frozen=True, slots=True)
class Integrated:
    """The integrator's say on T tumour tiles.

    Attributes:
        p_strong: float32 (T,), probability of the class strong.
        strong: bool (T,), the class itself.
    """

    p_strong: NDArray[np.float32]
    strong: NDArray[np.bool_]


class Integrator:
    """The bundle's random forest. Raises BundleError where it cannot be loaded."""

    def __init__(self, bundle: Bundle) -> None:
        self._model: Any = load_integrator(bundle)
        # Threads cost more than they save on a forest this small, and joblib's outlive the call.
        self._model.n_jobs = 1

    def integrate(self, p_folds: NDArray[np.float32]) -> Integrated:
        """Call T tumour tiles from their (T, 5) fold probabilities.

        The class is the likelier one; on a tie it is the first, weak, as scikit-learn's `predict`.
        """
        if len(p_folds) == 0:
            return Integrated(np.empty(0, np.float32), np.empty(0, np.bool_))
        p: NDArray[np.float64] = self._model.predict_proba(p_folds)[:, 1]
        return Integrated(p.astype(np.float32), np.asarray(p > 0.5, dtype=np.bool_))
