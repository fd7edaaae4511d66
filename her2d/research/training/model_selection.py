"""Select the three models of a bundle from all trained ones (paper, sections 4.3 to 4.5).

The paper selected all three by their metrics on its test sets, which makes those metrics
optimistic. her2d selects models on validation slides and held-out patients; test sets are for
measuring only.
"""

from collections.abc import Callable, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from her2d.method import FOLDS
from her2d.research.training.fit import RESULT_FILE, FitResult, read_result
from her2d.research.training.gate import check_gate
from her2d.research.training.integrator_file import write_integrator
from her2d.research.training.integrators import (
    INTEGRATORS,
    IntegratorError,
    IntegratorScore,
    fit_integrator,
    select_integrator,
)
from her2d.research.training.kept_apart import keep_apart
from her2d.research.training.leakage import check_leakage
from her2d.research.training.lightning_module import AUROC, MIOU, SENSITIVITY
from her2d.research.training.out_of_fold import fitting_digest, out_of_fold_predictions
from her2d.research.training.recipe import Recipe
from her2d.research.training.study import Study, StudyError, write_text

_RESULTS = "results.json"
_SCORES = TypeAdapter(list[IntegratorScore])


class ModelSelection(BaseModel):
    """The models that the bundle consists of, as saved in model_selection.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    segmenter: str
    classifier: str
    integrator: str
    integrator_fitted_on: str
    """Source of the predictions that the integrator was fitted on, in words."""
    integrator_data: str
    """SHA-256 of the tiles that the integrator was fitted on, in hex."""
    overridden: tuple[str, ...]
    """Those of the three that the user selected instead of the rule, by kind."""


class ClassifierScore(BaseModel):
    """One row of Table S2, with the validation metrics of the five folds; NaN if not defined."""

    model_config = ConfigDict(frozen=True)

    name: str
    auroc: tuple[float, ...]
    sensitivity: tuple[float, ...]

    @property
    def mean_auroc(self) -> float:
        """Mean over the folds whose AUROC is defined; 0 if none is."""
        return float(np.nanmean(self.auroc)) if not np.isnan(self.auroc).all() else 0.0


def segmenter_results(study: Study, recipe: Recipe) -> list[FitResult]:
    """Read the results of those of the recipe's segmenters that are trained.

    Raises:
        FitError: A result is not valid.
    """
    directories = [study.segmenter(name) for name in sorted(recipe.segmenters)]
    return [read_result(path) for path in directories if (path / RESULT_FILE).is_file()]


def classifier_scores(study: Study, recipe: Recipe) -> list[ClassifierScore]:
    """Read the scores of those of the recipe's classifiers with all five folds trained.

    Raises:
        FitError: A result is not valid.
    """
    scores = []
    for name in sorted(recipe.classifiers):
        paths = [study.classifier(name, fold) for fold in range(FOLDS)]
        if all((path / RESULT_FILE).is_file() for path in paths):
            found = [read_result(path).validation for path in paths]
            metrics = {
                key: tuple(float("nan") if f[key] is None else float(f[key] or 0) for f in found)
                for key in (AUROC, SENSITIVITY)
            }
            scores.append(ClassifierScore(name=name, **metrics))
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
    """Fit integrators on out-of-fold predictions, and select all three models.

    Args:
        study: Study with trained segmenters and classifiers.
        recipe: The study's recipe.
        names: Integrators to fit. Others that were fitted earlier on the same predictions by the
            same search remain candidates.
        segmenter, classifier, integrator: Name of a model to select instead of the rule's.
        progress: Called with each integrator's score.

    Returns:
        The selection, which is also saved in the study.

    Raises:
        StudyError: Models are missing, or networks learned from other slides.
        FoldsError, FitError: The folds or the networks do not match the recipe or one another.
        IntegratorError: An integrator cannot be fitted, or `integrator` is not among them.
        OSError: The study cannot be written.
    """
    keep_apart(study, recipe)
    selected_segmenter = select_segmenter(study, recipe, segmenter)
    selected_classifier = select_classifier(study, recipe, classifier)
    check_gate(study, recipe, selected_segmenter)
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
        write_integrator(fitted.model, study.integrators / f"{name}.skops")
        scores.append(fitted.score)
        progress(fitted.score)
    scores += _comparable_scores(study, scores)
    # A tie must not depend on the order in which integrators were fitted.
    scores.sort(key=lambda score: list(INTEGRATORS).index(score.name))
    if integrator is not None and integrator not in {score.name for score in scores}:
        raise IntegratorError(f"{integrator} is not one of the fitted integrators.")
    by_rule = select_integrator(scores, tolerance=recipe.integrator.auroc_tolerance).name
    selection = ModelSelection(
        segmenter=selected_segmenter,
        classifier=selected_classifier,
        integrator=integrator or by_rule,
        integrator_fitted_on=source.value,
        integrator_data=fitting_digest(study),
        overridden=_overrides(segmenter=segmenter, classifier=classifier, integrator=integrator),
    )
    _write_scores(study, scores)
    write_text(study.selection, selection.model_dump_json(indent=1))
    return selection


def select_segmenter(study: Study, recipe: Recipe, name: str | None = None) -> str:
    """Select the recipe's segmenter with the highest validation MIoU, or the one named.

    Raises:
        StudyError: It is not trained, or the recipe does not name it.
        FitError: A result is not valid.
    """
    by_miou = {r.name: r.validation[MIOU] or 0.0 for r in segmenter_results(study, recipe)}
    return _best("segmenter", by_miou, name)


def select_classifier(study: Study, recipe: Recipe, name: str | None = None) -> str:
    """Select the recipe's classifier with the highest mean AUROC of five folds, or the one named.

    Raises:
        StudyError: It is not trained, or the recipe does not name it.
        FitError: A result is not valid.
    """
    by_auroc = {s.name: s.mean_auroc for s in classifier_scores(study, recipe)}
    return _best("classifier", by_auroc, name)


def check_trained_networks(study: Study, recipe: Recipe) -> None:
    """Check that all networks to select from learned from the current training slides only.

    Raises:
        StudyError: One did not.
        FitError: A result is not valid.
    """
    check_leakage(
        study,
        segmenters=[result.name for result in segmenter_results(study, recipe)],
        classifiers=[score.name for score in classifier_scores(study, recipe)],
    )


def check_selection(study: Study, recipe: Recipe) -> None:
    """Check that no model was trained, selected or fitted on a slide that is now a test slide.

    Raises:
        StudyError: One was, its provenance cannot be read, or the recipe does not name a selected
            model.
        FitError: A result is not valid.
    """
    selection, _ = read_selection(study)
    for name, named in (
        (selection.segmenter, recipe.segmenters),
        (selection.classifier, recipe.classifiers),
    ):
        if name not in named:
            raise StudyError(
                f"The recipe no longer names {name}, which is selected. Run"
                " `her2d train integrator` again."
            )
    check_trained_networks(study, recipe)
    if selection.integrator_data != fitting_digest(study):
        raise StudyError(
            "The integrator was fitted on other slides or labels than the study has now. Run"
            " `her2d train integrator` again."
        )


def read_selection(study: Study) -> tuple[ModelSelection, list[IntegratorScore]]:
    """Read the selection and the score of every integrator.

    Raises:
        StudyError: No models are selected.
    """
    try:
        return ModelSelection.model_validate_json(
            study.selection.read_bytes()
        ), _SCORES.validate_json((study.integrators / _RESULTS).read_bytes())
    except (OSError, ValidationError) as error:
        raise StudyError(
            f"The models of {study.root} are not selected. Run `her2d train integrator` first."
        ) from error


def recipe_as_trained(study: Study, recipe: Recipe, selection: ModelSelection) -> Recipe:
    """Return the recipe with the settings by which the selected networks were trained.

    A recipe that is changed after training no longer tells them.

    Args:
        study: Study with selected models.
        recipe: The study's recipe.
        selection: The selected models.

    Raises:
        FitError: A network is not trained, or its result is not valid.
    """
    segmenter = read_result(study.segmenter(selection.segmenter))
    classifier = read_result(study.classifier(selection.classifier, 0))
    return recipe.model_copy(
        update={
            "segmenter": segmenter.recipe,
            "classifier": classifier.recipe,
            "mean": segmenter.normalization.mean,
            "std": segmenter.normalization.std,
        }
    )


def _comparable_scores(study: Study, fitted: Sequence[IntegratorScore]) -> list[IntegratorScore]:
    """Return scores of earlier calls that were fitted on the same tiles by the same search."""
    path = study.integrators / _RESULTS
    if not path.is_file() or not fitted:
        return []
    try:
        earlier = _SCORES.validate_json(path.read_bytes())
    except ValidationError:
        return []  # The caller writes the file again.
    names = {score.name for score in fitted}
    return [
        score
        for score in earlier
        if score.name not in names
        and score.fitted_on == fitted[0].fitted_on
        and (study.integrators / f"{score.name}.skops").is_file()
    ]


def _write_scores(study: Study, scores: list[IntegratorScore]) -> None:
    write_text(study.integrators / _RESULTS, _SCORES.dump_json(scores, indent=1).decode())


def _overrides(**names: str | None) -> tuple[str, ...]:
    return tuple(kind for kind, name in names.items() if name is not None)


def _best(kind: str, metrics: dict[str, float], name: str | None) -> str:
    if not metrics or (name is not None and name not in metrics):
        command = "segmenter" if kind == "segmenter" else "classifiers"
        missing = f"{kind} {name}" if name else kind
        raise StudyError(
            f"No {missing} that the recipe names is trained. Run `her2d train {command}` first."
        )
    return name or max(metrics, key=lambda name: metrics[name])
