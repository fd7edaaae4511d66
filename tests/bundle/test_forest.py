"""A random forest that is read without scikit-learn gives scikit-learn's probabilities."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skops.io
from forests import archive_of, folds_and_labels, parameters, read, tiles_near
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from her2d.bundle.forest import Forest
from her2d.bundle.forest_archive import read_forest
from her2d.bundle.integrator import INTEGRATOR_TRUSTED_TYPES, load_integrator
from her2d.bundle.loading import load_bundle
from her2d.settings import PACKAGE_DATA

FOLDS = 5
SHIPPED = PACKAGE_DATA / "her2net-demo"


@settings(max_examples=25, deadline=None)
@given(parameters, st.integers(0, 2**31), st.integers(2, 120), st.booleans(), st.booleans())
def test_the_probabilities_are_scikit_learns_to_the_last_bit(
    chosen, seed, tiles, missing, weighted
):
    p, strong = folds_and_labels(seed, tiles, missing)
    weight = np.random.default_rng(seed).random(tiles) + 0.01 if weighted else None
    forest = RandomForestClassifier(**chosen).fit(p, strong, sample_weight=weight)
    near = tiles_near(forest, p)
    assert read(forest).predict_proba(near).tobytes() == forest.predict_proba(near).tobytes()


def test_a_slide_of_more_tiles_than_are_held_at_once_has_the_same_probabilities(monkeypatch):
    p, strong = folds_and_labels(1, 200, False)
    forest = RandomForestClassifier(7, random_state=0).fit(p, strong)
    expected = forest.predict_proba(p)
    monkeypatch.setattr("her2d.bundle.forest._MOST_AT_ONCE", 70)
    assert read(forest).predict_proba(p).tobytes() == expected.tobytes()
    assert read(forest).predict_proba(p[:0]).shape == (0, 2)


def test_tiles_that_scikit_learn_refuses_are_refused():
    p, strong = folds_and_labels(1, 50, False)
    forest = read(RandomForestClassifier(2, random_state=0).fit(p, strong))
    with pytest.raises(ValueError, match="infinite"):
        forest.predict_proba(np.full((1, FOLDS), np.inf))
    with pytest.raises(ValueError, match="5 features"):
        forest.predict_proba(p[:, :4])


@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeClassifier(),
        ExtraTreesClassifier(2),
        RandomForestClassifier(2, monotonic_cst=[1, 0, 0, 0, 0]),
        RandomForestClassifier(2, random_state=np.random.RandomState(3)),
    ],
    ids=["tree", "extra trees", "monotonic", "random state"],
)
def test_any_other_model_is_left_to_skops(model):
    assert read_forest(archive_of(model.fit(*folds_and_labels(1, 50, False)))) is None


class Payload:
    """What an attacker would like to have restored."""


@pytest.mark.parametrize("place", ["forest", "tree"])
def test_a_forest_with_anything_unknown_in_it_is_left_to_skops(place):
    forest = RandomForestClassifier(2).fit(*folds_and_labels(1, 50, False))
    owner = forest if place == "forest" else forest.estimators_[1]
    owner.payload = Payload()
    assert read_forest(archive_of(forest)) is None


def altered(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """An archive whose arrays and schema were changed: names -> arrays, and `schema`."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {
            name: json.loads(archive.read(name))
            if name == "schema.json"
            else np.load(io.BytesIO(archive.read(name)))
            for name in archive.namelist()
        }
    change(parts)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in parts.items():
            file = io.BytesIO()
            if name == "schema.json":
                file.write(json.dumps(part).encode())
            else:
                np.save(file, part)
            archive.writestr(name, file.getvalue())
    return buffer.getvalue()


def tree_nodes(parts: dict[str, Any]) -> Any:
    """The nodes of a tree that has some."""
    return next(
        part
        for part in parts.values()
        if getattr(part, "dtype", np.dtype("i")).names and len(part) > 3
    )


def tree_values(parts: dict[str, Any]) -> Any:
    return next(part for part in parts.values() if getattr(part, "ndim", 0) == 3 and len(part) > 3)


def beyond_the_end(parts: dict[str, Any]) -> None:
    tree_nodes(parts)["right_child"][0] = 10**9


def back_to_the_root(parts: dict[str, Any]) -> None:
    tree_nodes(parts)["left_child"][0] = 0


def twice_the_same_child(parts: dict[str, Any]) -> None:
    nodes = tree_nodes(parts)
    nodes["left_child"][0] = nodes["right_child"][0]


def unknown_feature(parts: dict[str, Any]) -> None:
    tree_nodes(parts)["feature"][0] = FOLDS


def negative_feature(parts: dict[str, Any]) -> None:
    tree_nodes(parts)["feature"][0] = -3


def no_threshold(parts: dict[str, Any]) -> None:
    tree_nodes(parts)["threshold"][0] = np.nan


def counts_instead_of_shares(parts: dict[str, Any]) -> None:
    tree_values(parts)[-1] = 17


def no_share(parts: dict[str, Any]) -> None:
    tree_values(parts)[-1] = np.nan


def values_of_fewer_nodes(parts: dict[str, Any]) -> None:
    name = next(n for n, part in parts.items() if getattr(part, "ndim", 0) == 3 and len(part) > 3)
    parts[name] = parts[name][:-1]


def no_trees(parts: dict[str, Any]) -> None:
    parts["schema.json"]["content"]["content"]["estimators_"]["content"] = []


def no_such_file(parts: dict[str, Any]) -> None:
    parts["schema.json"]["content"]["content"]["classes_"]["file"] = "../../etc/passwd"


def deeply_nested(parts: dict[str, Any]) -> None:
    parts["schema.json"]["content"]["content"]["n_features_in_"]["content"] = "[" * 100_000


def another_kind_of_tree(parts: dict[str, Any]) -> None:
    forest = parts["schema.json"]["content"]["content"]
    forest["estimators_"]["content"][0] = forest["classes_"]


@pytest.mark.parametrize(
    "change",
    [
        beyond_the_end,
        back_to_the_root,
        twice_the_same_child,
        unknown_feature,
        negative_feature,
        no_threshold,
        counts_instead_of_shares,
        no_share,
        values_of_fewer_nodes,
        no_trees,
        no_such_file,
        deeply_nested,
        another_kind_of_tree,
    ],
    ids=lambda change: change.__name__.replace("_", " "),
)
def test_a_forest_whose_parts_do_not_fit_together_is_refused(change):
    forest = RandomForestClassifier(3, random_state=0).fit(*folds_and_labels(1, 80, False))
    assert read_forest(altered(archive_of(forest), lambda parts: None)) is not None
    with pytest.raises((ValueError, KeyError, RecursionError)):
        read_forest(altered(archive_of(forest), change))


def test_an_archive_of_a_huge_member_is_refused(monkeypatch):
    monkeypatch.setattr("her2d.bundle.forest_archive._MOST_BYTES", 1000)
    forest = RandomForestClassifier(3, random_state=0).fit(*folds_and_labels(1, 80, False))
    with pytest.raises(ValueError, match=r"schema\.json has \d+ bytes"):
        read_forest(archive_of(forest))


def test_the_shipped_forest_is_read_and_gives_scikit_learns_probabilities():
    shipped_bundle = load_bundle(SHIPPED)
    p = np.random.default_rng(0).random((5000, FOLDS)).astype(np.float32)
    content = shipped_bundle.integrator.read_bytes()
    expected = skops.io.loads(content, trusted=list(INTEGRATOR_TRUSTED_TYPES)).predict_proba(p)
    found = load_integrator(shipped_bundle)
    assert isinstance(found, Forest)
    assert found.predict_proba(p).tobytes() == expected.tobytes()


def test_a_forest_is_read_without_scikit_learn():
    code = (
        "import sys; from pathlib import Path;"
        "from her2d.bundle.integrator import Integrator;"
        "from her2d.bundle.loading import load_bundle;"
        f"Integrator(load_bundle(Path({str(SHIPPED)!r})));"
        "print({'sklearn', 'skops', 'scipy', 'joblib', 'torch'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
