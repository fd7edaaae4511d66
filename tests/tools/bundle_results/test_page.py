"""The page on the shipped bundle's results: of the shipped bundle, and as its data say."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from her2d.bundle.loading import load_bundle
from her2d.bundle.manifest import Manifest, Measured
from her2d.research.demo_bundle import Sizes, demo_recipe
from her2d.research.evaluation.mil import MIL
from her2d.research.evaluation.reflex_testing import ReflexRow, RuleOut, StandardizedYield
from her2d.research.evaluation.report import Report, SlideRow
from her2d.research.evaluation.rows import Interval
from her2d.research.evaluation.tripod import tripod_rows
from her2d.research.training.integrators import INTEGRATORS
from tools.bundle_results.page import figure, page
from tools.bundle_results.paper import (
    EXTERNAL,
    IN_A_REPORT,
    INTERNAL,
    TABLE_1,
    Misprint,
    PaperSet,
    misdiagnosis,
    misprints,
)

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "docs" / "explanation"
GROUPS = ("fn", "tp", "fp", "tn")


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return load_bundle(ROOT / "engines" / "her2net-demo").manifest


@pytest.fixture(scope="module")
def report() -> Report:
    return Report.model_validate_json((PAGES / "bundle" / "report.json").read_text())


class OfSplit(NamedTuple):
    """What the shipped manifest and the report say of the bundle on a split."""

    split: str
    shipped: Measured
    row: SlideRow


@pytest.fixture(params=[("test", "measured"), ("external", "measured_external")], ids=str)
def of_split(request: pytest.FixtureRequest, report: Report, manifest: Manifest) -> OfSplit:
    split, section = request.param
    shipped, row = getattr(manifest, section), report.bundle_row(split)
    assert isinstance(shipped, Measured)
    assert row is not None
    return OfSplit(split, shipped, row)


def test_the_page_is_what_its_data_say(report: Report, manifest: Manifest) -> None:
    assert (PAGES / "demo-bundle.md").read_text() == page(report, manifest.training)


def test_the_figure_is_what_its_data_say(report: Report) -> None:
    assert (PAGES / "bundle" / "p-external.svg").read_text() == figure(report)


def test_the_checklist_is_what_its_data_say(report: Report) -> None:
    assert report.tripod == tripod_rows(report, demo_recipe(Sizes(), report.seed))


def test_the_data_are_of_the_shipped_bundle(
    report: Report, manifest: Manifest, of_split: OfSplit
) -> None:
    split, shipped, row = of_split
    (segmenter,) = (each for each in report.segmenters if each.selected)
    (integrator,) = (each for each in report.integrators if each.selected)
    assert (
        shipped.slide_accuracy,
        shipped.slide_sensitivity,
        shipped.slide_specificity,
        shipped.slide_auroc,
        shipped.slides_without_call,
        shipped.segmenter_miou,
        shipped.tile_auroc,
        manifest.decision.tile_cut,
    ) == (
        row.accuracy.value,
        row.sensitivity.value,
        row.specificity.value,
        row.auroc.value,
        row.indeterminate,
        segmenter.sets[split],
        integrator.sets[split].auroc,
        integrator.tile_cut,
    )


def test_the_shipped_manifest_has_the_intervals_and_the_coverage_of_its_report(
    report: Report, of_split: OfSplit
) -> None:
    split, shipped, row = of_split
    (covered,) = (each for each in report.coverage if (each.set, each.band) == (split, "all"))
    assert shipped.interval_slides == covered.slides
    for name, found in (
        ("slide_accuracy", row.accuracy),
        ("slide_sensitivity", row.sensitivity),
        ("slide_specificity", row.specificity),
        ("slide_auroc", row.auroc),
        ("interval_coverage", covered.share),
    ):
        parts = (name, f"{name}_ci_low", f"{name}_ci_high")
        assert [getattr(shipped, part) for part in parts] == [found.value, found.low, found.high]


@pytest.mark.parametrize(
    ("paper", "accuracy"), [(INTERNAL, 0.9043), (EXTERNAL, 0.8922)], ids=["internal", "external"]
)
def test_the_papers_counts_give_the_accuracy_of_its_abstract(paper: Any, accuracy: float) -> None:
    assert round(paper.confusion.accuracy, 4) == accuracy
    assert paper.confusion.total == paper.slides
    assert paper.confusion.tp + paper.confusion.fn == paper.positive


@pytest.mark.parametrize("paper", [INTERNAL, EXTERNAL], ids=["internal", "external"])
def test_the_papers_tables_of_features_count_its_calls(paper: PaperSet) -> None:
    called = paper.confusion
    tests = [test for test in misdiagnosis() if test.table == paper.counts]
    assert {test.feature for test in tests} == set(IN_A_REPORT)
    for test in tests:
        found = [sum(getattr(each, name) for each in test.levels) for name in GROUPS]
        assert found == [getattr(called, name) for name in GROUPS]


def test_the_papers_table_2_counts_what_its_tables_3_and_4_count_but_for_one_misprint() -> None:
    assert list(misprints()) == [Misprint("Adenoid differentiation", "Table 3", 60, 50)]


@pytest.mark.parametrize("data", ["internal", "external"])
def test_the_levels_of_the_papers_table_1_add_up_to_its_slides(data: str) -> None:
    sums: dict[str, int] = {}
    for (feature, _), slides in TABLE_1[data].levels.items():
        sums[feature] = sums.get(feature, 0) + slides
    assert set(sums.values()) == {TABLE_1[data].slides}


@pytest.mark.parametrize(
    ("split", "paper"), [("test", INTERNAL), ("external", EXTERNAL)], ids=["internal", "external"]
)
def test_the_papers_accuracy_lies_in_the_interval_of_the_bundles(
    report: Report, split: str, paper: PaperSet
) -> None:
    row = report.bundle_row(split)
    assert row is not None
    low, high = row.accuracy.low, row.accuracy.high
    assert low is not None
    assert high is not None
    assert low <= paper.confusion.accuracy <= high


@pytest.mark.parametrize("name", ["table_1", "table_2"])
def test_a_report_without_a_table_makes_no_page(
    report: Report, manifest: Manifest, name: str
) -> None:
    with pytest.raises(ValueError, match="no Table 1 or no Table 2"):
        page(report.model_copy(update={name: None}), manifest.training)


def test_a_report_whose_interval_is_for_no_stated_share_makes_no_page(
    report: Report, manifest: Manifest
) -> None:
    coverage = tuple(row.model_copy(update={"prevalence": None}) for row in report.coverage)
    with pytest.raises(ValueError, match="not for one share of positive slides"):
        page(report.model_copy(update={"coverage": coverage}), manifest.training)


def test_calls_that_are_not_borderline_are_counted_with_the_wrong_ones(
    report: Report, manifest: Manifest
) -> None:
    """Of ten calls; a slide without a true status counts nowhere."""

    def calls(count: int, predicted: str, true: str, *, borderline: bool) -> list[Any]:
        found = report.predictions[0].model_copy(
            update={"predicted": predicted, "true_status": true, "borderline": borderline}
        )
        return [found.model_copy(update={"name": f"{predicted}{true}{n}"}) for n in range(count)]

    predictions = (
        *calls(3, "negative", "negative", borderline=False),
        *calls(1, "negative", "positive", borderline=False),
        *calls(2, "positive", "positive", borderline=False),
        *calls(4, "positive", "negative", borderline=True),
        *calls(5, "negative", "indeterminate", borderline=False),
    )
    text = page(report.model_copy(update={"predictions": predictions}), manifest.training)
    words = " ".join(text.split())
    assert "**4 of 10 calls are `borderline`**. Of the 5 wrong calls 4 are." in words
    assert (
        "Of the 4 negative calls that are not borderline 1 are wrong, and of the 2 positive ones 0."
        in words
    )


def test_the_papers_figures_give_its_positive_predictive_value_at_the_intervals_share(
    report: Report, manifest: Manifest
) -> None:
    """At 12.5 %: 0.889 x 0.125 of all slides are right positive calls, 0.093 x 0.875 wrong ones."""
    assert "specificity 58 % or 55 % of the positive calls would be right" in " ".join(
        page(report, manifest.training).split()
    )


def test_the_bundle_is_compared_with_every_integrator_and_with_mil(report: Report) -> None:
    assert {row.integrator for row in report.slides} == {*INTEGRATORS, MIL}
    assert [row.name for row in report.classifiers] == ["resnet18", "vit_b_32"]


def test_the_interval_holds_the_annotated_share_of_93_to_97_in_100_slides(report: Report) -> None:
    shares = {row.set: row.share.value for row in report.coverage if row.band == "all"}
    assert set(shares) == {"test", "external"}
    assert all(share is not None and 0.93 <= share <= 0.97 for share in shares.values())


def test_a_report_of_one_set_makes_no_page(report: Report, manifest: Manifest) -> None:
    internal = report.model_copy(
        update={"slides": tuple(row for row in report.slides if row.set == "test")}
    )
    with pytest.raises(ValueError, match="no results of the set external"):
        page(internal, manifest.training)


def test_what_a_rule_out_threshold_saves_is_said_for_both_centres(
    report: Report, manifest: Manifest
) -> None:
    some = Interval(value=0.5, low=0.4, high=0.6)
    there = StandardizedYield(saved=some, npv=Interval(value=0.97, low=0.9, high=0.99))
    rule = RuleOut(
        threshold_percent=10.0,
        slides=100,
        patients=100,
        positive=30,
        saved=some,
        npv=some,
        note="The highest of all.",
        prevalence=0.125,
        standardized=there,
    )
    rows = tuple(
        ReflexRow(
            set=name,
            slides=80,
            not_tested=missed + 40,
            missed=missed,
            saved=some,
            npv=some,
            found=some,
            standardized=there,
        )
        for name, missed in (("test", 3), ("external", 5))
    )
    text = page(report.model_copy(update={"rule_out": rule, "reflex": rows}), manifest.training)
    words = " ".join(text.split())
    assert (
        "The rule-out threshold is P of 10.0 %, the highest of all. Under it 43 of 80 internal"
        " slides would not be tested by IHC, 3 of them positive; where 12.5 % are positive, that"
        " saves 0.500 (0.400 to 0.600) of the tests with a negative predictive value of 0.970"
        " (0.900 to 0.990)."
    ) in words
    assert "45 of 80 external slides would not be tested by IHC, 5 of them positive" in words
