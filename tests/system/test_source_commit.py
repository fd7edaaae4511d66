"""The commit of her2d where it runs from a checkout."""

import os
import subprocess

from her2d.system.source_commit import source_commit


def git(folder, *arguments: str) -> str:
    command = ["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder) -> str:
    """Commit a file of code; return the commit."""
    folder.mkdir(exist_ok=True)
    git(folder, "init", "-q")
    (folder / "code.py").write_text("1")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    return git(folder, "rev-parse", "HEAD")


def test_the_commit_is_that_of_the_checkout_and_marks_changes(tmp_path):
    commit = repository(tmp_path)
    assert source_commit(tmp_path / "code.py") == commit
    (tmp_path / "code.py").write_text("2")
    assert source_commit(tmp_path / "code.py") == f"{commit}-dirty"


def test_an_installed_package_has_no_commit_even_below_a_checkout(tmp_path):
    (tmp_path / "code.py").write_text("1")
    assert source_commit(tmp_path / "code.py") is None
    git(tmp_path, "init", "-q")
    assert source_commit(tmp_path / "code.py") is None


def test_nothing_fails_where_git_is_missing(tmp_path, monkeypatch):
    repository(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert source_commit(tmp_path / "code.py") is None


def test_a_hook_of_another_repository_does_not_confuse_it(tmp_path, monkeypatch):
    here, other = tmp_path / "here", tmp_path / "other"
    commit = repository(here)
    repository(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert source_commit(here / "code.py") == commit


def test_a_checkout_that_cannot_be_written_has_its_commit(tmp_path):
    commit = repository(tmp_path)
    index = (tmp_path / ".git" / "index").stat().st_mtime_ns
    os.utime(tmp_path / "code.py")  # the index would be refreshed
    assert source_commit(tmp_path / "code.py") == commit
    assert (tmp_path / ".git" / "index").stat().st_mtime_ns == index
