"""The integrator, which classifies a tile by its five fold probabilities (paper, section 4.5).

It is a scikit-learn classifier in skops format. A random forest, as the paper chose, is read as
plain arrays. Of any other, skops restores only an explicit list of types. So no code in a bundle is
ever run.
"""

import sys
import zipfile
import zlib
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.forest import Forest
from her2d.bundle.forest_archive import read_forest
from her2d.bundle.loading import Bundle, read_verified
from her2d.bundle.manifest import BundleError
from her2d.errors import Her2dError
from her2d.method import FOLDS

# The types of the paper's eight integrators that skops does not trust by default. They are data,
# restored from arrays and plain values. XGBoost restores its Booster from its binary format, so a
# machine that runs such a bundle needs xgboost installed.
INTEGRATOR_TRUSTED_TYPES = (
    "sklearn.tree._tree.Tree",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.utils._bunch.Bunch",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "her2d.bundle.mean_of_folds.MeanOfFolds",
)
_INTEGRATORS = (
    "LogisticRegression",
    "DecisionTreeClassifier",
    "CalibratedClassifierCV",
    "RandomForestClassifier",
    "AdaBoostClassifier",
    "GradientBoostingClassifier",
    "XGBClassifier",
    "VotingClassifier",
    "MeanOfFolds",
)
# What reading a file raises that is damaged, or that somebody altered.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


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
    """Runs the bundle's integrator with the bundle's tile cut.

    Raises:
        BundleError: the integrator cannot be loaded.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._model: Any = load_integrator(bundle)
        self._tile_cut = bundle.manifest.decision.tile_cut

    @property
    def tile_cut(self) -> float:
        """The probability above which a tile is strong."""
        return self._tile_cut

    @property
    def forest(self) -> Forest | None:
        """The integrator if it is a random forest, else None."""
        return self._model if isinstance(self._model, Forest) else None

    def integrate(self, p_folds: NDArray[np.float32]) -> Integrated:
        """Classify T tumour tiles.

        A tile is strong if its probability exceeds the bundle's tile cut. With the default cut of
        0.5 that is the more probable class. A tie is weak, as in scikit-learn's `predict`.

        Args:
            p_folds: float32 (T, 5), p(strong) by each of the five folds.
        """
        if len(p_folds) == 0:
            return Integrated(np.empty(0, np.float32), np.empty(0, np.bool_))
        p: NDArray[np.float64] = self._model.predict_proba(p_folds)[:, 1]
        return Integrated(p.astype(np.float32), np.asarray(p > self._tile_cut, dtype=np.bool_))


def load_integrator(bundle: Bundle) -> Any:
    """Restore the classifier over five fold probabilities (paper, section 4.5).

    It has scikit-learn's `predict_proba`. scikit-learn itself is only imported if the classifier is
    not a random forest.

    Raises:
        BundleError: the file was changed since it was verified, is not a skops archive, contains a
            type that is not trusted or not installed, or is not one of the paper's eight
            classifiers or the mean of the five, with two classes and five features.
    """
    content = read_verified(bundle.integrator, bundle.her2net.integrator.sha256)
    try:
        model = read_forest(content) or _restored(content)
    except _NotTrustedError as error:
        raise BundleError(
            f"The integrator of {bundle.directory} is not trusted: {error}"
        ) from error
    except ModuleNotFoundError as error:
        raise BundleError(
            f"The integrator of {bundle.directory} needs {error.name}, which is not installed."
        ) from error
    except _UNREADABLE as error:
        raise BundleError(
            f"The integrator of {bundle.directory} cannot be read: {error}"
        ) from error
    is_one = isinstance(model, Forest) or type(model).__name__ in _INTEGRATORS
    if not is_one or list(model.classes_) != [0, 1] or model.n_features_in_ != FOLDS:
        raise BundleError(
            f"The integrator of {bundle.directory} must be one of {', '.join(_INTEGRATORS)}"
            " that classifies five fold probabilities as 0 (weak) or 1 (strong)."
        )
    if not isinstance(model, Forest):
        # For a model this small, threads take more time than they save, and joblib's threads stay
        # alive after the call.
        model.n_jobs = 1
    return model


class _NotTrustedError(Her2dError):
    """An archive contains a type that is not trusted."""


def _restored(content: bytes) -> Any:
    """Have skops restore a model of trusted types. Raises _NotTrustedError and others."""
    # Importing skops imports all of scikit-learn, which takes seconds.
    with _NoTorch():
        import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.loads(content, trusted=list(INTEGRATOR_TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise _NotTrustedError(str(error)) from error


class _NoTorch(MetaPathFinder):
    """Hides torch, as if it were not installed.

    skops requests all estimators of scikit-learn, which imports all its modules. One of these
    imports torch if it is installed, which would take seconds and 300 MB in the daemon.
    """

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == "torch":
            raise ModuleNotFoundError("torch is hidden while skops is imported", name="torch")
