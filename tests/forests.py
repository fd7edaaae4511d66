"""Random forests fitted to simulated fold probabilities, and tiles that are hard for them."""

import zipfile

import numpy as np
import skops.io
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from her2d.bundle.forest import Forest
from her2d.bundle.forest_archive import read_forest
from her2d.method import FOLDS

parameters = st.fixed_dictionaries(
    {
        "n_estimators": st.integers(1, 12),
        "max_depth": st.sampled_from([None, 1, 2, 5]),
        "max_leaf_nodes": st.sampled_from([None, 2, 7]),
        "min_samples_leaf": st.sampled_from([1, 5]),
        "criterion": st.sampled_from(["gini", "entropy"]),
        "max_features": st.sampled_from(["sqrt", None, 1]),
        "class_weight": st.sampled_from(
            [None, "balanced", "balanced_subsample", {0: 1.0, 1: 3.5}, {0: 1, 1: 2}]
        ),
        "bootstrap": st.booleans(),
        "ccp_alpha": st.sampled_from([0.0, 0.01]),
        "random_state": st.integers(0, 2**31 - 1),
    }
)


def archive_of(model: object) -> bytes:
    return skops.io.dumps(model, compression=zipfile.ZIP_DEFLATED)


def read(model: object) -> Forest:
    found = read_forest(archive_of(model))
    assert found is not None
    return found


def folds_and_labels(seed: int, tiles: int, missing: bool) -> tuple[np.ndarray, np.ndarray]:
    """Fold probabilities with ties, as float32 as the engines give them; some may be missing."""
    rng = np.random.default_rng(seed)
    p = np.round(rng.random((tiles, FOLDS)), rng.integers(1, 7)).astype(np.float32)
    strong = (p.mean(axis=1) + rng.normal(0, 0.2, tiles) > 0.5).astype(int)
    strong[:2] = 0, 1
    if missing:
        p[rng.random(p.shape) < 0.1] = np.nan
    return p, strong


def tiles_near(forest: RandomForestClassifier, p: np.ndarray) -> np.ndarray:
    """The tiles, others, and some that lie exactly at a threshold or beside it."""
    thresholds = np.concatenate([tree.tree_.threshold for tree in forest.estimators_])
    at = thresholds.astype(np.float32)[:200]
    beside = np.concatenate([at, np.nextafter(at, np.float32(9)), np.nextafter(at, np.float32(-9))])
    corners = np.array([0.0, -0.0, 1.0, 1e-45, np.nan, -3.0, 7.5], np.float32)
    values = np.concatenate([beside, corners])
    rng = np.random.default_rng(len(values))
    values = values[~np.isinf(values)]  # a threshold is infinite where only missing values differ
    return np.concatenate([p, rng.choice(values, (300, FOLDS)), rng.random((100, FOLDS))])
