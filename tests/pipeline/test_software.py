import re
import tomllib
from pathlib import Path

from her2d.pipeline import software
from her2d.pipeline.software import library_versions

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_every_library_that_reads_slides_is_among_those_that_nodes_must_have():
    project = tomllib.loads(PROJECT.read_text())["project"]
    formats = project["optional-dependencies"]["formats"]
    needed = {re.split(r"[<>=]", each)[0] for each in (*project["dependencies"], *formats)}
    of_formats = {re.split(r"[<>=]", each)[0] for each in formats}
    assert of_formats <= set(library_versions()) <= needed


def test_a_library_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(software, "_LIBRARIES", ("numpy", "no-such-library"))
    found = library_versions()
    assert found["numpy"] is not None
    assert found["no-such-library"] is None
