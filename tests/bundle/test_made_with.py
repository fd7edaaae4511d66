"""Which scikit-learn a bundle's integrator was made with."""

import io
import zipfile
from dataclasses import replace
from importlib.metadata import version

import pytest
from captured_logs import capture_logs

from her2d.bundle.loading import Bundle, sha256_of
from her2d.bundle.made_with import log_other_scikit_learn, scikit_learn_of
from her2d.bundle.manifest import BundleError


def with_integrator(bundle: Bundle, folder, content: bytes) -> Bundle:
    """Return the bundle with another file for its integrator, as its manifest would have it."""
    (folder / bundle.integrator.name).write_bytes(content)
    part = bundle.manifest.parts.integrator
    part = part.model_copy(update={"sha256": sha256_of(folder / bundle.integrator.name)})
    parts = bundle.manifest.parts.model_copy(update={"integrator": part})
    manifest = bundle.manifest.model_copy(update={"parts": parts})
    return replace(bundle, directory=folder, manifest=manifest)


def archive(schema: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("schema.json", schema)
    return content.getvalue()


def test_the_version_is_read_without_restoring_the_model(color_bundle):
    assert scikit_learn_of(color_bundle) == version("scikit-learn")


def test_an_integrator_that_records_no_version_has_none(color_bundle, tmp_path):
    assert scikit_learn_of(with_integrator(color_bundle, tmp_path, archive("{}"))) is None


@pytest.mark.parametrize(
    "content", [b"no archive", archive("[" * 100_000), archive("no JSON")], ids=lambda c: c[:4]
)
def test_a_file_that_is_no_integrator_is_an_error(color_bundle, tmp_path, content):
    with pytest.raises(BundleError, match="cannot be read"):
        scikit_learn_of(with_integrator(color_bundle, tmp_path, content))


def test_another_version_than_the_installed_one_is_logged(color_bundle, tmp_path):
    log_other_scikit_learn(color_bundle)
    schema = '{"content": [{"_sklearn_version": {"content": "\\"1.5.0\\""}}]}'
    with capture_logs() as log:
        log_other_scikit_learn(with_integrator(color_bundle, tmp_path, archive(schema)))
    assert [(line["event"], line["made_with"]) for line in log] == [
        ("bundle_of_other_scikit_learn", "1.5.0")
    ]
