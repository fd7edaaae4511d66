"""Compare two bundles' results for the same slides."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlite_utils import Database

from her2d.results.queries import AmbiguousBundle, BundleNotFound


@dataclass(frozen=True, slots=True)
class BundleIdentity:
    """A bundle that has scored slides."""

    bundle_id: int
    name: str
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A slide to which two bundles give different statuses."""

    slide_id: int
    file_name: str
    first_status: str
    second_status: str
    first_percent: float | None
    second_percent: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The results of two bundles for the slides that both have scored.

    Attributes:
        first, second: the bundles.
        counts: number of slides for each pair (status by the first, status by the second).
        mean_difference: mean of the second's P minus the first's, percentage points, over slides
            for which both have a P; None if there is none.
        disagreements: every slide with different statuses, largest difference first.
    """

    first: BundleIdentity
    second: BundleIdentity
    counts: Mapping[tuple[str, str], int]
    mean_difference: float | None
    disagreements: tuple[Disagreement, ...]

    @property
    def slides(self) -> int:
        return sum(self.counts.values())

    @property
    def agreeing(self) -> int:
        return sum(n for (first, second), n in self.counts.items() if first == second)

    @property
    def kappa(self) -> float | None:
        return cohens_kappa(self.counts)


def compare_bundles(db: Database, first: str, second: str) -> Comparison:
    """Compare two bundles by the newest run of each over every slide that both have scored.

    Args:
        first, second: a name, a name and version separated by a space, or the start of a digest.

    Raises:
        BundleNotFound: no bundle that has scored slides matches.
        AmbiguousBundle: several match.
    """
    one, other = find_bundle(db, first), find_bundle(db, second)
    counts = {
        (str(row["one"]), str(row["other"])): int(row["slides"])
        for row in db.query(
            f"select {_ONE} as one, {_OTHER} as other, count(*) as slides"
            f" from bundle_pairs where {_THESE} group by 1, 2",
            _ids(one, other),
        )
    }
    return Comparison(
        first=one,
        second=other,
        counts=counts,
        mean_difference=_mean_difference(db, one, other),
        disagreements=_disagreements(db, one, other),
    )


def find_bundle(db: Database, key: str) -> BundleIdentity:
    """Find a bundle; `key` and errors as in `compare_bundles`."""
    rows = list(
        db.query(
            "select id as bundle_id, name, version, digest from bundles where name = :key"
            " or name || ' ' || version = :key"
            " or (length(:key) >= 6 and substr(digest, 1, length(:key)) = :key) order by id",
            {"key": key},
        )
    )
    if not rows:
        raise BundleNotFound(f"No bundle {key!r} has scored a slide here.")
    if len(rows) > 1:
        known = ", ".join(f"{row['digest'][:12]} ({row['name']} {row['version']})" for row in rows)
        raise AmbiguousBundle(f"{key!r} matches several bundles. Give one of the digests {known}.")
    return BundleIdentity(**rows[0])


def cohens_kappa(counts: Mapping[tuple[str, str], int]) -> float | None:
    """Compute Cohen's kappa (Cohen 1960); None if chance alone would give full agreement."""
    total = sum(counts.values())
    if total == 0:
        return None
    observed = sum(n for (first, second), n in counts.items() if first == second) / total
    names = {name for pair in counts for name in pair}
    expected = sum(
        sum(n for (first, _), n in counts.items() if first == name)
        * sum(n for (_, second), n in counts.items() if second == name)
        for name in names
    ) / (total * total)
    return None if expected == 1 else (observed - expected) / (1 - expected)


# bundle_pairs has the lower id first; the caller may give the bundles in the other order.
_ONE = "iif(:one < :other, first_status, second_status)"
_OTHER = "iif(:one < :other, second_status, first_status)"
_THESE = "first_bundle_id = min(:one, :other) and second_bundle_id = max(:one, :other)"
_RUNS = (
    "bundle_pairs join runs as a on a.id = iif(:one < :other, first_run_id, second_run_id)"
    " join runs as b on b.id = iif(:one < :other, second_run_id, first_run_id)"
)


def _ids(one: BundleIdentity, other: BundleIdentity) -> dict[str, int]:
    return {"one": one.bundle_id, "other": other.bundle_id}


def _mean_difference(db: Database, one: BundleIdentity, other: BundleIdentity) -> float | None:
    rows = db.query(
        "select avg(b.high_expression_percent - a.high_expression_percent) as difference"
        f" from {_RUNS} where {_THESE}",
        _ids(one, other),
    )
    difference = next(rows)["difference"]
    return None if difference is None else float(difference)


def _disagreements(
    db: Database, one: BundleIdentity, other: BundleIdentity
) -> tuple[Disagreement, ...]:
    rows = db.query(
        "select slides.id as slide_id, slides.file_name, a.her2_status as first_status,"
        " b.her2_status as second_status, a.high_expression_percent as first_percent,"
        " b.high_expression_percent as second_percent"
        f" from {_RUNS} join slides on slides.id = bundle_pairs.slide_id"
        f" where {_THESE} and first_status <> second_status"
        " order by abs(b.high_expression_percent - a.high_expression_percent) desc, slides.id",
        _ids(one, other),
    )
    return tuple(Disagreement(**row) for row in rows)
