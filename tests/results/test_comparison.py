"""The comparison of two bundles' results for the same slides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from her2d.results.comparison import cohens_kappa, compare_bundles
from her2d.results.queries import AmbiguousBundle, BundleNotFound

NEW = {"digest": "e" * 64, "version": "2"}
STATUSES = st.sampled_from(["positive", "negative", "indeterminate"])


@pytest.fixture
def both(record):
    """Slide a changes from positive to negative, b stays positive, one bundle scored c."""
    for name in "abc":
        record(slide={"content_hash": name, "file_name": f"{name}.tif"})
    record(
        slide={"content_hash": "a", "file_name": "a.tif"},
        bundle=NEW,
        run={"her2_status": "negative", "high_expression_percent": 4.0},
    )
    record(slide={"content_hash": "b", "file_name": "b.tif"}, bundle=NEW)


def test_agreement_counts_slides_that_both_have_scored(db, both):
    comparison = compare_bundles(db, "test 1", "test 2")
    assert comparison.counts == {("positive", "negative"): 1, ("positive", "positive"): 1}
    assert (comparison.slides, comparison.agreeing) == (2, 1)
    assert comparison.mean_difference == pytest.approx((4 - 40) / 2)


def test_disagreements_are_listed_with_both_percentages(db, both):
    (slide,) = compare_bundles(db, "test 1", "test 2").disagreements
    assert (slide.file_name, slide.first_status, slide.second_status) == (
        "a.tif",
        "positive",
        "negative",
    )
    assert (slide.first_percent, slide.second_percent) == (40.0, 4.0)


def test_the_bundles_are_in_the_order_of_the_arguments(db, both):
    comparison = compare_bundles(db, "test 2", "test 1")
    assert comparison.counts == {("negative", "positive"): 1, ("positive", "positive"): 1}
    assert comparison.mean_difference == pytest.approx((40 - 4) / 2)
    assert comparison.disagreements[0].first_percent == 4.0


def test_only_the_newest_run_of_each_bundle_counts(db, both, record):
    record(slide={"content_hash": "a", "file_name": "a.tif"}, bundle=NEW)
    assert compare_bundles(db, "test 1", "test 2").counts == {("positive", "positive"): 2}


def test_the_view_of_agreement_gives_the_same_counts(db, both):
    rows = list(db.query("select * from bundle_agreement order by second_status"))
    assert [tuple(row.values()) for row in rows] == [
        ("test 1", "test 2", "positive", "negative", 1),
        ("test 1", "test 2", "positive", "positive", 1),
    ]


def test_a_bundle_is_found_by_the_start_of_its_digest(db, both):
    assert compare_bundles(db, "dddddd", "eeeeee").slides == 2


def test_an_unknown_bundle_is_not_found(db, both):
    with pytest.raises(BundleNotFound, match="No bundle 'magic'"):
        compare_bundles(db, "magic", "test 2")


def test_a_name_of_two_bundles_is_ambiguous_and_lists_them(db, both):
    with pytest.raises(AmbiguousBundle, match=r"dddddddddddd \(test 1\), eeeeeeeeeeee \(test 2\)"):
        compare_bundles(db, "test", "test 2")


@given(st.lists(st.tuples(STATUSES, STATUSES), min_size=1, max_size=60))
def test_kappa_equals_scikit_learns(pairs):
    counts = {pair: pairs.count(pair) for pair in pairs}
    kappa = cohens_kappa(counts)
    if kappa is None:
        assert len({status for pair in pairs for status in pair}) == 1
    else:
        assert kappa == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)))
