"""From trained models to the three that a bundle is made of (paper, sections 4.3 to 4.5).

The paper chose all three by their figures on its test sets, which then no longer test. Here models
are selected on validation slides and held-out patients, and test sets only measure.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from her2d.research.training.fit import RESULT_FILE, FitResult, read_result
from her2d.research.training.folds import FOLDS
from her2d.research.training.integrators import (
    INTEGRATORS,
    IntegratorError,
    IntegratorScore,
    fit_integrator,
    select_integrator,
)
from her2d.research.training.leakage import check_leakage
from her2d.research.training.lightning_module import AUROC, MIOU, SENSITIVITY
from her2d.research.training.out_of_fold import fitting_digest, out_of_fold_predictions
from her2d.research.training.recipe import Recipe
from her2d.research.training.study import Study, StudyError, write_text
from her2d.system.files import replacing

_RESULTS = "results.json"
_SCORES = TypeAdapter(list[IntegratorScore])


class ModelSelection(BaseModel):
    """What the bundle is made of, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    segmenter: str
    classifier: str
    integrator: str
    integrator_fitted_on: str
    integrator_data: str
    """Digest of the tiles it was fitted on."""
    overridden: tuple[str, ...]
    """Which of the three a person chose against the rule."""


class ClassifierScore(BaseModel):
    """One row of Table S2: validation figures of five folds."""

    model_config = ConfigDict(frozen=True)

    name: str
    auroc: tuple[float, ...]
    sensitivity: tuple[float, ...]

    @property
    def mean_auroc(self) -> float:
        return float(np.nanmean(self.auroc)) if not np.isnan(self.auroc).all() else 0.0


def segmenter_results(study: Study, recipe: Recipe) -> list[FitResult]:
    """The recipe's segmenters, as far as they are trained. Raises FitError."""
    directories = [study.segmenter(name) for name in sorted(recipe.segmenters)]
    return [read_result(path) for path in directories if (path / RESULT_FILE).is_file()]


def classifier_scores(study: Study, recipe: Recipe) -> list[ClassifierScore]:
    """The recipe's classifiers of which all five folds are trained. Raises FitError."""
    scores = []
    for name in sorted(recipe.classifiers):
        paths = [study.classifier(name, fold) for fold in range(FOLDS)]
        if all((path / RESULT_FILE).is_file() for path in paths):
            found = [read_result(path).validation for path in paths]
            figures = {
                key: tuple(float("nan") if f[key] is None else float(f[key] or 0) for f in found)
                for key in (AUROC, SENSITIVITY)
            }
            scores.append(ClassifierScore(name=name, **figures))
    return scores


def fit_integrators(
    study: Study,
    recipe: Recipe,
    names: Sequence[str],
    *,
    segmenter: str | None = None,
    classifier: str | None = None,
    integrator: str | None = None,
    progress: Callable[[IntegratorScore], None] = lambda _: None,
) -> ModelSelection:
    """Fit each integrator on honest probabilities, and choose all three models.

    Args:
        study: with trained segmenters and classifiers.
        recipe: its `integrator` section.
        names: integrators to fit; others that were fitted on the same probabilities by the same
            search stand beside them.
        segmenter, classifier, integrator: a person's selection instead of the rule's.
        progress: told each integrator's score.

    Raises:
        StudyError: models are missing, or a selected one is not there.
        IntegratorError: they cannot be fitted.
    """
    selected_segmenter = select_segmenter(study, recipe, segmenter)
    selected_classifier = select_classifier(study, recipe, classifier)
    check_trained_networks(study, recipe)
    tiles, source = out_of_fold_predictions(study, recipe, selected_classifier)
    study.integrators.mkdir(parents=True, exist_ok=True)
    scores = []
    for name in names:
        fitted = fit_integrator(
            name,
            tiles,
            seed=recipe.seed,
            folds=recipe.integrator.folds,
            class_weight=recipe.integrator.class_weight,
        )
        _keep(fitted.model, study.integrators / f"{name}.skops")
        scores.append(fitted.score)
        progress(fitted.score)
    scores += _comparable_scores(study, scores)
    # A tie must not depend on what was fitted when.
    scores.sort(key=lambda score: list(INTEGRATORS).index(score.name))
    if integrator is not None and integrator not in {score.name for score in scores}:
        raise IntegratorError(f"{integrator} is not among the fitted integrators.")
    by_rule = select_integrator(scores, tolerance=recipe.integrator.auroc_tolerance).name
    selection = ModelSelection(
        segmenter=selected_segmenter,
        classifier=selected_classifier,
        integrator=integrator or by_rule,
        integrator_fitted_on=source.value,
        integrator_data=fitting_digest(study),
        overridden=_given(segmenter=segmenter, classifier=classifier, integrator=integrator),
    )
    _write_scores(study, scores)
    write_text(study.selection, selection.model_dump_json(indent=1))
    return selection


def select_segmenter(study: Study, recipe: Recipe, wish: str | None = None) -> str:
    """The recipe's segmenter of the best MIoU, or the one wished for. Raises StudyError."""
    by_miou = {r.name: r.validation[MIOU] or 0.0 for r in segmenter_results(study, recipe)}
    return _best("segmenter", by_miou, wish)


def select_classifier(study: Study, recipe: Recipe, wish: str | None = None) -> str:
    """The recipe's classifier of the best mean AUROC of five folds, or the one wished for.

    Raises:
        StudyError: it is not trained.
    """
    by_auroc = {s.name: s.mean_auroc for s in classifier_scores(study, recipe)}
    return _best("classifier", by_auroc, wish)


def check_trained_networks(study: Study, recipe: Recipe) -> None:
    """That all networks there are to choose from learned from the same, and no other slides.

    Raises:
        StudyError: one did not.
        FitError: a result cannot be read.
    """
    check_leakage(
        study,
        segmenters=[result.name for result in segmenter_results(study, recipe)],
        classifiers=[score.name for score in classifier_scores(study, recipe)],
    )


def check_selection(study: Study, recipe: Recipe) -> None:
    """That no model was trained, selected or fitted on a slide that is in a test set now.

    Raises:
        StudyError: one was, or its origin is unknown, or what is selected is not in the recipe.
        FitError: a result cannot be read.
    """
    selection, _ = read_selection(study)
    for name, named in (
        (selection.segmenter, recipe.segmenters),
        (selection.classifier, recipe.classifiers),
    ):
        if name not in named:
            raise StudyError(
                f"The recipe no longer names {name}, which is selected: run her2d train integrator"
                " again."
            )
    check_trained_networks(study, recipe)
    if selection.integrator_data != fitting_digest(study):
        raise StudyError(
            "The integrator was fitted on other slides or labels than the study has now: run her2d"
            " train integrator again."
        )


def read_selection(study: Study) -> tuple[ModelSelection, list[IntegratorScore]]:
    """The selection and every integrator's score. Raises StudyError."""
    try:
        return ModelSelection.model_validate_json(
            study.selection.read_bytes()
        ), _SCORES.validate_json((study.integrators / _RESULTS).read_bytes())
    except (OSError, ValidationError) as error:
        raise StudyError(
            f"{study.root} holds no selected models: run her2d train integrator first."
        ) from error


def _comparable_scores(study: Study, fitted: Sequence[IntegratorScore]) -> list[IntegratorScore]:
    """Scores of earlier calls that compare with these."""
    path = study.integrators / _RESULTS
    if not path.is_file() or not fitted:
        return []
    try:
        kept = _SCORES.validate_json(path.read_bytes())
    except ValidationError:
        return []  # Whatever it holds, it does not compare, and is written anew.
    names = {score.name for score in fitted}
    return [
        score
        for score in kept
        if score.name not in names
        and score.fitted_on == fitted[0].fitted_on
        and (study.integrators / f"{score.name}.skops").is_file()
    ]


def _write_scores(study: Study, scores: list[IntegratorScore]) -> None:
    write_text(study.integrators / _RESULTS, _SCORES.dump_json(scores, indent=1).decode())


def _keep(model: Any, path: Path) -> None:
    with replacing(path) as part:
        skops.io.dump(model, part)


def _given(**wishes: str | None) -> tuple[str, ...]:
    return tuple(kind for kind, wish in wishes.items() if wish is not None)


def _best(kind: str, figures: dict[str, float], wish: str | None) -> str:
    if not figures or (wish is not None and wish not in figures):
        command = "segmenter" if kind == "segmenter" else "classifiers"
        name = f"{kind} {wish}" if wish else kind
        raise StudyError(
            f"No {name} that the recipe names is trained: run her2d train {command} first."
        )
    return wish or max(figures, key=lambda name: figures[name])
