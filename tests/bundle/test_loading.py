"""A bundle is trusted only after every file is what its manifest says."""

from pathlib import Path

import numpy as np
import pytest
import skops.io
import tomli_w
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from her2d.bundle.integrator import Integrator, load_integrator
from her2d.bundle.loading import load_bundle, sha256_of
from her2d.bundle.manifest import BundleError, HeStain
from her2d.pipeline.rules import rules_of


def integrator(features: int = 5):
    rng = np.random.default_rng(0)
    p = rng.random((40, features))
    return RandomForestClassifier(5, max_depth=2, random_state=0).fit(p, p.mean(1) > 0.5)


def write_bundle(folder: Path, model=None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "segmenter.onnx").write_bytes(b"segmenter")
    (folder / "classifiers.onnx").write_bytes(b"classifiers")
    forest = model or RandomForestClassifier(5, random_state=0).fit(
        np.random.default_rng(0).random((40, 5)), np.arange(40) % 2
    )
    skops.io.dump(forest, folder / "integrator.skops")
    files = {
        "segmenter": "segmenter.onnx",
        "classifiers": "classifiers.onnx",
        "integrator": "integrator.skops",
    }
    manifest = {
        "name": "test",
        "version": "1",
        "intended_use": "Tests.",
        "normalization": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "parts": {
            part: {"file": file, "sha256": sha256_of(folder / file), "architecture": part}
            for part, file in files.items()
        },
        "training": {"cohort": "none", "seed": 0, "code_version": "0", "command": "pytest"},
    }
    (folder / "manifest.toml").write_text(tomli_w.dumps(manifest))
    return folder


def test_a_whole_bundle_loads_with_the_papers_rules_as_defaults(tmp_path):
    bundle = load_bundle(write_bundle(tmp_path / "b"))
    rules = bundle.manifest.preprocessing
    assert (rules.magnification, rules.tile, rules.saturation) == (4.0, 512, 10.0)
    assert (rules.tumor_fraction, bundle.manifest.decision.threshold) == (0.10, 0.10)
    assert bundle.segmenter.read_bytes() == b"segmenter"


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("magnification = 10.0", "needs tiles at 10x, and her2d only reads tiles at 4x"),
        ("mpp = 1.0", "needs tiles of 1 um/px, and her2d only reads tiles of about 2.5 um/px"),
        ("mpp = nan", "needs tiles of nan um/px"),
    ],
)
def test_a_bundle_for_tiles_of_another_magnification_is_refused(tmp_path, rule, sentence):
    folder = write_bundle(tmp_path / "b")
    manifest = folder / "manifest.toml"
    manifest.write_text(f"{manifest.read_text()}\n[preprocessing]\n{rule}\n")
    with pytest.raises(BundleError, match=sentence):
        load_bundle(folder)


CALIBRATION = {
    "coverage": 0.95,
    "slides": 20,
    "patients": 19,
    "residuals": [1.0] * 20,
    "patient": [*range(19), 18],
    "scale": {"base": 0.1, "near_cut": 0.5},
}


def with_section(folder: Path, **sections) -> Path:
    manifest = folder / "manifest.toml"
    manifest.write_text(f"{manifest.read_text()}\n{tomli_w.dumps(sections)}")
    return folder


def test_a_bundle_may_calibrate_the_interval_and_may_leave_it_out(tmp_path):
    plain = load_bundle(write_bundle(tmp_path / "plain"))
    found = load_bundle(with_section(write_bundle(tmp_path / "b"), interval=CALIBRATION))
    assert plain.manifest.interval is None
    assert found.manifest.interval.patients == 19
    assert found.manifest.interval.scale.few_tiles == 0.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"call": ["negative"] * 19}, "call must be of each slide, or left out"),
        ({"coverage": 0.9}, "wants intervals of 90 %, and her2d shows those of 95 % only"),
        ({"residuals": [1.0] * 19}, "must be of equally many slides"),
        ({"patients": 20}, "must be of equally many patients"),
        (
            {"patients": 18, "patient": [*range(18), 17, 17]},
            "18 patients are too few for 0.95 coverage",
        ),
        ({"scale": {"base": 0.0}}, "greater than 0"),
        ({"prevalence": 0.1}, "positive and prevalence belong together"),
        ({"positive": [False] * 20}, "positive and prevalence belong together"),
        ({"prevalence": 1.0, "positive": [False] * 20}, "less than 1"),
        ({"prevalence": 0.1, "positive": [True] * 19}, "positive must be of each slide"),
        ({"prevalence": 0.1, "positive": [False] * 20}, "slides of both HER2 statuses"),
        (
            {"prevalence": 0.5, "positive": [False] * 19 + [True]},
            "19 patients are too few for 0.95 coverage",
        ),
    ],
)
def test_a_calibration_that_contradicts_itself_is_refused(tmp_path, change, sentence):
    folder = with_section(write_bundle(tmp_path / "b"), interval={**CALIBRATION, **change})
    with pytest.raises(BundleError, match=sentence):
        load_bundle(folder)


STAIN = {"mean": [0.3, 0.6, 0.3], "std": [0.1, 0.1, 0.1]}


def test_what_counts_as_he_is_the_bundles_and_the_methods_where_it_says_nothing(tmp_path):
    without = load_bundle(write_bundle(tmp_path / "without"))
    old = load_bundle(with_section(write_bundle(tmp_path / "old"), stain=STAIN))
    for bundle in (without, old):
        assert rules_of(bundle).quality.he == HeStain()
    stated = with_section(write_bundle(tmp_path / "b"), stain={**STAIN, "he": {"pink_percent": 7}})
    assert rules_of(load_bundle(stated)).quality.he == HeStain(pink_percent=7)


@pytest.mark.parametrize(
    ("he", "sentence"),
    [
        ({"eosin": [0.0, 0.0, 0.0]}, "a dye must absorb some colour"),
        ({"pink_percent": 101}, "less than or equal to 100"),
    ],
)
def test_a_stain_that_cannot_be_is_refused(tmp_path, he, sentence):
    folder = with_section(write_bundle(tmp_path / "b"), stain={**STAIN, "he": he})
    with pytest.raises(BundleError, match=sentence):
        load_bundle(folder)


def test_the_tile_cut_is_the_bundles(tmp_path):
    p = np.repeat([[0.2], [0.35], [0.6]], 5, axis=1).astype(np.float32)
    model = LogisticRegression().fit(np.repeat(np.arange(10)[:, None], 5, 1) / 9, np.arange(10) > 4)
    found = Integrator(load_bundle(write_bundle(tmp_path / "default", model))).integrate(p)
    cut = float(found.p_strong[:2].mean())
    folder = with_section(write_bundle(tmp_path / "b", model), decision={"tile_cut": cut})
    assert found.strong.tolist() == [False, False, True]
    assert Integrator(load_bundle(folder)).integrate(p).strong.tolist() == [False, True, True]


@pytest.mark.parametrize("file", ["segmenter.onnx", "classifiers.onnx", "integrator.skops"])
def test_one_changed_byte_in_any_part_is_refused(tmp_path, file):
    folder = write_bundle(tmp_path / "b")
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{file} differs from the manifest"):
        load_bundle(folder)


def test_a_missing_part_is_refused(tmp_path):
    folder = write_bundle(tmp_path / "b")
    (folder / "classifiers.onnx").unlink()
    with pytest.raises(BundleError, match=r"classifiers\.onnx cannot be read"):
        load_bundle(folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(BundleError, match="no readable model bundle"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('name = "test"', "name = ", "is not TOML"),
        ('version = "1"', 'verison = "1"', "version"),
        ('file = "segmenter.onnx"', 'file = "../segmenter.onnx"', "inside the bundle"),
        ('file = "segmenter.onnx"', 'file = "/etc/passwd"', "inside the bundle"),
    ],
)
def test_a_bad_manifest_is_refused_with_the_key(tmp_path, old, new, sentence):
    folder = write_bundle(tmp_path / "b")
    manifest = folder / "manifest.toml"
    manifest.write_text(manifest.read_text().replace(old, new))
    with pytest.raises(BundleError, match=sentence):
        load_bundle(folder)


def test_the_digest_names_the_whole_bundle(tmp_path):
    one = load_bundle(write_bundle(tmp_path / "a"))
    other = load_bundle(write_bundle(tmp_path / "b", integrator()))
    assert one.digest != other.digest


@pytest.mark.parametrize(
    "model",
    [
        integrator(features=4),
        DummyClassifier().fit(np.eye(5), [0, 1, 0, 1, 0]),
        RandomForestClassifier(2).fit(np.eye(5), [0, 1, 2, 1, 0]),
    ],
    ids=["four features", "another model", "three classes"],
)
def test_an_integrator_that_is_not_one_of_the_papers_over_five_is_refused(tmp_path, model):
    bundle = load_bundle(write_bundle(tmp_path / "b", model))
    with pytest.raises(BundleError, match="must be one of"):
        load_integrator(bundle)


class Payload:
    """What an attacker would like to have restored."""


def test_an_untrusted_type_in_the_integrator_is_refused(tmp_path):
    forest = integrator()
    forest.payload = Payload()
    bundle = load_bundle(write_bundle(tmp_path / "b", forest))
    with pytest.raises(BundleError, match="is not trusted"):
        load_integrator(bundle)


def test_a_pickle_is_never_read(tmp_path):
    import pickle

    folder = write_bundle(tmp_path / "b")
    (folder / "integrator.skops").write_bytes(pickle.dumps(integrator()))
    manifest = folder / "manifest.toml"
    text = manifest.read_text()
    head, _, tail = text.partition('file = "integrator.skops"')
    old = tail.split('"')[1]
    manifest.write_text(
        head
        + 'file = "integrator.skops"'
        + tail.replace(old, sha256_of(folder / "integrator.skops"), 1)
    )
    with pytest.raises(BundleError, match="cannot be read"):
        load_integrator(load_bundle(folder))
