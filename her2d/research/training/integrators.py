"""Fit the paper's eight integrated classifiers by grid search and select one (section 4.5).

The mean of the five probabilities, which does not have parameters, is a ninth. All use the same
class weights, so that their comparison does not depend on the weights; see
`IntegratorRecipe.class_weight`. Each has a tile cut by which P of equation 1 is not biased.

Of the random forests in the grid, the shallowest is taken of those that are as good as the best, by
the one-standard-error rule (Breiman et al. 1984; Hastie et al. 2009, section 7.10). It varies less
between cohorts, and decides more tiles before all sub-classifiers have run.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_val_predict
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.class_weight import compute_sample_weight

from her2d.bundle.mean_of_folds import MeanOfFolds
from her2d.errors import Her2dError
from her2d.method import TILE_CUT
from her2d.research.training.out_of_fold import FoldProbabilities
from her2d.research.training.recipe import ClassWeight
from her2d.research.training.slide_level import SlideLevel, slide_level, unbiased_cut

Grid = Mapping[str, Sequence[Any]]


class IntegratorError(Her2dError):
    """Integrators cannot be fitted or selected; `str(error)` says why."""


class SearchRule(StrEnum):
    """Which of the grid's models is taken."""

    BEST = "the best mean AUROC"
    ONE_STANDARD_ERROR = "the one-standard-error rule"


class IntegratorScore(BaseModel):
    """One row of Table S3, cross-validated on the tiles that the integrator was fitted on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    parameters: dict[str, Any]
    auroc: float
    sensitivity: float
    specificity: float
    fitted_on: str
    """SHA-256 of the predictions and the search settings; scores with equal ones are comparable."""
    tile_cut: float = TILE_CUT
    """Probability above which a tile is strong; sensitivity and specificity are at this cut."""
    slide_level: SlideLevel | None = None
    """What the calls of the tiles mean for their slides."""
    parameters_by: SearchRule = SearchRule.BEST
    """By which rule the parameters were taken from the grid."""


@dataclass(frozen=True, slots=True)
class FittedIntegrator:
    """An integrator fitted on all tiles, with its cross-validated score and tile cut."""

    model: Any
    score: IntegratorScore


def _xgboost(seed: int) -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(random_state=seed, n_jobs=1)


def _soft_voting(seed: int) -> VotingClassifier:
    members = [("lr", _lr(seed)), ("dt", _dt(seed)), ("rf", _rf(seed))]
    return VotingClassifier(members, voting="soft")


def _lr(seed: int) -> LogisticRegression:
    return LogisticRegression(random_state=seed, max_iter=1000)


def _dt(seed: int) -> DecisionTreeClassifier:
    return DecisionTreeClassifier(max_depth=4, random_state=seed)


def _rf(seed: int) -> RandomForestClassifier:
    return RandomForestClassifier(50, min_samples_leaf=5, random_state=seed)


def _svm(seed: int) -> CalibratedClassifierCV:
    # Platt scaling of the margin, fitted on three further folds.
    return CalibratedClassifierCV(SVC(random_state=seed), ensemble=False, cv=3)


INTEGRATORS: dict[str, tuple[Callable[[int], Any], Grid]] = {
    "lr": (_lr, {"C": [0.01, 0.1, 1, 10]}),
    "dt": (_dt, {"max_depth": [2, 3, 4, 6], "min_samples_leaf": [1, 5, 20]}),
    "svm": (_svm, {"estimator__kernel": ["linear", "rbf"], "estimator__C": [0.1, 1, 10]}),
    "rf": (_rf, {"n_estimators": [50, 100], "max_depth": [2, 4, None]}),
    "adaboost": (
        lambda seed: AdaBoostClassifier(random_state=seed),
        {"n_estimators": [25, 50, 100], "learning_rate": [0.1, 1.0]},
    ),
    "gbdt": (
        lambda seed: GradientBoostingClassifier(random_state=seed),
        {"n_estimators": [50, 100], "max_depth": [1, 2, 3]},
    ),
    "xgboost": (_xgboost, {"n_estimators": [50, 100], "max_depth": [1, 2, 3]}),
    "soft_voting": (_soft_voting, {"weights": [(1, 1, 1), (2, 1, 1), (1, 1, 2)]}),
    "mean": (lambda _: MeanOfFolds(), {}),
}


def fit_integrator(
    name: str,
    tiles: FoldProbabilities,
    *,
    seed: int,
    folds: int,
    class_weight: ClassWeight = "none",
) -> FittedIntegrator:
    """Search an integrator's grid with folds grouped by patient, then fit it on all tiles.

    Args:
        name: A key of INTEGRATORS.
        tiles: Predictions for tiles that the sub-classifiers did not learn from.
        seed: Seed of the models and the folds.
        folds: Number of folds of the search; at most one for each patient.
        class_weight: See `IntegratorRecipe`.

    Returns:
        The fitted model with its cross-validated score.

    Raises:
        IntegratorError: There is no such integrator, or too few patients have strong and weak
            tiles.
    """
    if name not in INTEGRATORS:
        raise IntegratorError(f"Unknown integrator {name!r}; choose {', '.join(INTEGRATORS)}.")
    if not tiles.strong.any() or tiles.strong.all():
        raise IntegratorError("An integrator needs strong and weak tiles to learn from.")
    build, grid = INTEGRATORS[name]
    rule = SearchRule.ONE_STANDARD_ERROR if name == "rf" else SearchRule.BEST
    p, strong = tiles.p.astype(np.float64), tiles.strong.astype(np.int64)
    weight = _weights(strong, class_weight)
    try:
        splits = _splits(tiles, seed, folds)
        if any(len(np.unique(strong[learned])) < 2 for learned, _ in splits):
            raise ValueError("all strong tiles belong to one patient")
        chosen = shallowest_of_equals if rule is SearchRule.ONE_STANDARD_ERROR else True
        search = GridSearchCV(
            build(seed), dict(grid), scoring=_auroc, cv=splits, refit=chosen, error_score="raise"
        )
        search.fit(p, strong, sample_weight=weight)
        held_out_p = _held_out_p(search.best_estimator_, p, strong, weight, splits)
    except ValueError as error:
        raise IntegratorError(
            f"Cannot fit the integrator {name} on {len(strong)} tiles of"
            f" {len(np.unique(tiles.patient))} patients: {str(error).rstrip('.')}."
        ) from error
    cut = unbiased_cut(held_out_p, tiles.slide_tiles)
    called = held_out_p > cut
    score = IntegratorScore(
        name=name,
        parameters=search.best_params_,
        auroc=float(roc_auc_score(strong, held_out_p)),
        sensitivity=float(recall_score(strong, called)),
        specificity=float(recall_score(strong, called, pos_label=0)),
        tile_cut=cut,
        slide_level=slide_level(called, tiles.slide_tiles),
        parameters_by=rule,
        fitted_on=_digest(tiles, f"{seed} {folds} {class_weight} {SearchRule.ONE_STANDARD_ERROR}"),
    )
    return FittedIntegrator(search.best_estimator_, score)


def shallowest_of_equals(results: Mapping[str, Any]) -> int:
    """Return the index of the shallowest model within one standard error of the best.

    The standard error is that of the best model's mean over the folds. Of equally shallow models
    the one with the best mean is taken, and of these the first.

    Args:
        results: `GridSearchCV.cv_results_` of a grid with `max_depth`, in which None is unlimited.
    """
    mean = np.asarray(results["mean_test_score"], np.float64)
    best = int(np.argmax(mean))
    folds = [np.asarray(of, np.float64)[best] for of in _scores_by_fold(results)]
    error = float(np.std(folds, ddof=1)) / math.sqrt(len(folds))
    depth = [math.inf if one is None else float(one) for one in results["param_max_depth"]]
    equal = np.flatnonzero(mean >= mean[best] - error)
    return int(min(equal, key=lambda index: (depth[index], -mean[index])))


def _scores_by_fold(results: Mapping[str, Any]) -> Iterator[Any]:
    fold = 0
    while (key := f"split{fold}_test_score") in results:
        yield results[key]
        fold += 1


def held_out_models(
    score: IntegratorScore,
    tiles: FoldProbabilities,
    *,
    seed: int,
    folds: int,
    class_weight: ClassWeight,
) -> Iterator[tuple[frozenset[str], Any]]:
    """Fit an integrator again without the patients of each fold of its search.

    Args:
        score: Score of the fitted integrator, with the parameters that the search chose.
        tiles, seed, folds, class_weight: As given to `fit_integrator`.

    Yields:
        The patients of a fold and the model that did not learn from them.
    """
    build, _ = INTEGRATORS[score.name]
    p, strong = tiles.p.astype(np.float64), tiles.strong.astype(np.int64)
    weight = _weights(strong, class_weight)
    for learned, held_out in _splits(tiles, seed, folds):
        model = build(seed).set_params(**score.parameters)
        model.fit(p[learned], strong[learned], sample_weight=weight[learned])
        yield frozenset(np.unique(tiles.patient[held_out]).tolist()), model


def _splits(
    tiles: FoldProbabilities, seed: int, folds: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Split tiles into folds by patient: indices to learn from, and those held out."""
    # A fold without a patient could not be measured.
    folds_used = min(folds, len(np.unique(tiles.patient)))
    held_out = StratifiedGroupKFold(folds_used, shuffle=True, random_state=seed)
    return list(held_out.split(tiles.p, tiles.strong.astype(np.int64), tiles.patient))


def _weights(strong: NDArray[np.int64], class_weight: ClassWeight) -> NDArray[np.float64]:
    # Sample weights, because boosters do not have a class_weight and the SVM's would not affect its
    # probabilities.
    balanced = "balanced" if class_weight == "balanced" else None
    return np.asarray(compute_sample_weight(balanced, strong), np.float64)


def _held_out_p(model: Any, p: Any, strong: Any, weight: Any, splits: Any) -> NDArray[np.float64]:
    """Predict p(strong) of each tile by the model fitted without the tile's patient."""
    found = cross_val_predict(
        model, p, strong, cv=splits, params={"sample_weight": weight}, method="predict_proba"
    )
    return np.asarray(found[:, 1], np.float64)


def select_integrator(scores: Sequence[IntegratorScore], *, tolerance: float) -> IntegratorScore:
    """Select the most sensitive integrator of those with nearly the best AUROC (section 4.5).

    Sensitivity decides because strong tiles are few and a slide's status depends on them. A tie in
    sensitivity goes to the higher AUROC.

    Args:
        scores: Scores of the fitted integrators.
        tolerance: Largest difference to the best AUROC.

    Raises:
        IntegratorError: There are no scores.
    """
    if not scores:
        raise IntegratorError("No integrator is fitted.")
    best = max(score.auroc for score in scores)
    close = [score for score in scores if score.auroc >= best - tolerance]
    return max(close, key=lambda score: (score.sensitivity, score.auroc))


def _digest(tiles: FoldProbabilities, search: str) -> str:
    found = hashlib.sha256(f"{search} {','.join(map(str, tiles.patient))}".encode())
    found.update(",".join(map(str, tiles.slide)).encode())
    for array in (tiles.p, tiles.strong, tiles.tumor_pixels):
        found.update(array.tobytes())
    return found.hexdigest()


def _auroc(model: Any, p: Any, strong: Any, sample_weight: Any = None) -> float:
    # Class weights do not change an AUROC. The parameter exists because scikit-learn warns without.
    # The AUROC is not defined if the held-out patients have one class; 0.5 favours no parameters.
    if len(np.unique(strong)) < 2:
        return 0.5
    return float(roc_auc_score(strong, model.predict_proba(p)[:, 1]))
