"""What a network was trained on, as the manifest states it."""

import subprocess

import torch

from her2d.research.training.environment import source_commit, training_environment


def git(folder, *arguments: str) -> str:
    command = ["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_cpu_is_stated_with_its_threads_and_without_cuda():
    found = training_environment(torch.device("cpu"))
    assert found.threads == torch.get_num_threads()
    assert found.device.startswith("cpu, ")
    assert (found.torch, found.cuda) == (torch.__version__, None)


def test_the_commit_is_that_of_the_checkout_and_marks_changes(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert source_commit(tmp_path / "code.py") == commit
    (tmp_path / "code.py").write_text("2")
    assert source_commit(tmp_path / "code.py") == f"{commit}-dirty"


def test_an_installed_package_has_no_commit_even_below_a_checkout(tmp_path):
    (tmp_path / "code.py").write_text("1")
    assert source_commit(tmp_path / "code.py") is None
    git(tmp_path, "init", "-q")
    assert source_commit(tmp_path / "code.py") is None
