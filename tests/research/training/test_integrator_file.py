"""Files of equal integrators are equal to the byte."""

import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import skops.io

from her2d.bundle.integrator import INTEGRATOR_TRUSTED_TYPES
from her2d.research.training.integrator_file import (
    check_integrator,
    integrator_bytes,
    write_integrator,
)
from her2d.research.training.integrators import INTEGRATORS
from her2d.research.training.study import StudyError

FIT = """
import sys, numpy as np
from pathlib import Path
from her2d.research.training.integrator_file import write_integrator
from her2d.research.training.integrators import INTEGRATORS
p = np.random.default_rng(0).random((60, 5))
for name, (build, _) in INTEGRATORS.items():
    model = build(3).fit(p, (p[:, 0] > 0.6).astype(int))
    write_integrator(model, Path(sys.argv[1]) / f"{name}.skops")
"""


def predictions() -> np.ndarray:
    return np.random.default_rng(0).random((60, 5))


def fitted(name: str):
    p = predictions()
    return INTEGRATORS[name][0](3).fit(p, (p[:, 0] > 0.6).astype(int))


@pytest.mark.parametrize("name", INTEGRATORS)
def test_a_model_that_is_fitted_twice_gives_the_same_bytes(name):
    first = integrator_bytes(fitted(name))
    _other_objects = [object() for _ in range(1000)]
    assert integrator_bytes(fitted(name)) == first


@pytest.mark.slow
def test_two_processes_write_the_same_files(tmp_path):
    folders = [tmp_path / "one", tmp_path / "other"]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", FIT, folder],
            env=os.environ | {"PYTHONHASHSEED": str(seed + 1)},
            check=True,
        )
    for name in INTEGRATORS:
        one, other = ((folder / f"{name}.skops").read_bytes() for folder in folders)
        assert one == other, name


@pytest.mark.parametrize("name", INTEGRATORS)
def test_the_file_restores_the_model(name, tmp_path):
    model = fitted(name)
    write_integrator(model, tmp_path / "model.skops")
    restored = skops.io.load(tmp_path / "model.skops", trusted=list(INTEGRATOR_TRUSTED_TYPES))
    p = np.random.default_rng(1).random((200, 5))
    assert np.array_equal(restored.predict_proba(p), model.predict_proba(p))


def test_another_model_gives_other_bytes():
    p = predictions()
    other = INTEGRATORS["lr"][0](3).fit(p, (p[:, 0] > 0.5).astype(int))
    assert integrator_bytes(other) != integrator_bytes(fitted("lr"))


def test_no_member_states_when_it_was_written():
    with zipfile.ZipFile(io.BytesIO(integrator_bytes(fitted("rf")))) as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}


@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_damaged_file_is_refused_in_words(tmp_path, damage):
    path = tmp_path / "lr.skops"
    write_integrator(fitted("lr"), path)
    check_integrator(path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    with pytest.raises(StudyError, match=r"lr\.skops is damaged\. Run `her2d train integrator`"):
        check_integrator(path)
