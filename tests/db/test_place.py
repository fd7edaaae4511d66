"""Where the database may be."""

from pathlib import Path

import pytest

from her2d.db.connection import DatabaseError
from her2d.db.place import require_local, share_doubt, share_problem
from her2d.doctor.database import storage_findings
from her2d.doctor.finding import Severity
from her2d.settings import ResultsSettings, Settings
from her2d.system import filesystems

# statfs(2)
NFS, SMB2, PLAN_9, FUSE, EXT4, OVERLAY = (
    0x6969,
    0xFE534D42,
    0x01021997,
    0x65735546,
    0xEF53,
    0x794C7630,
)


@pytest.fixture
def on(monkeypatch):
    """Let every folder be on a file system of that type; real ones would need a server."""

    def on(magic: int) -> None:
        monkeypatch.setattr(filesystems, "file_system_type", lambda _: magic)

    return on


def severity(tmp_path: Path) -> tuple[Severity, str]:
    results = ResultsSettings(
        database=tmp_path / "her2d.sqlite", heatmaps=tmp_path, backups=tmp_path
    )
    (found,) = (
        f for f in storage_findings(Settings(results=results)) if f.check == "database's disk"
    )
    return found.severity, found.message


@pytest.mark.parametrize(("magic", "name"), [(NFS, "NFS"), (SMB2, "SMB"), (PLAN_9, "9p")])
def test_a_database_on_a_network_share_is_refused(tmp_path, on, magic, name):
    on(magic)
    with pytest.raises(DatabaseError, match=f"is on {name}, where SQLite can damage it.*disk of"):
        require_local(tmp_path / "not" / "yet" / "her2d.sqlite")
    assert severity(tmp_path)[0] is Severity.FAILURE


def test_a_database_on_what_may_be_a_share_is_warned_of(tmp_path, on):
    on(FUSE)
    require_local(tmp_path / "her2d.sqlite")
    assert "is on FUSE" in (share_doubt(tmp_path / "her2d.sqlite") or "")
    assert severity(tmp_path)[0] is Severity.WARNING


@pytest.mark.parametrize("magic", [EXT4, OVERLAY])
def test_a_database_on_a_disk_of_this_machine_is_right(tmp_path, on, magic):
    on(magic)
    require_local(tmp_path / "her2d.sqlite")
    assert share_doubt(tmp_path / "her2d.sqlite") is None
    assert severity(tmp_path)[0] is Severity.OK


def test_the_place_of_a_link_is_where_it_leads(tmp_path, monkeypatch):
    share = tmp_path / "share"
    share.mkdir()
    link = tmp_path / "her2d.sqlite"
    link.symlink_to(share / "her2d.sqlite")
    monkeypatch.setattr(
        filesystems, "file_system_type", lambda folder: NFS if folder == share else EXT4
    )
    assert share_problem(link) is not None
    assert share_problem(tmp_path / "other.sqlite") is None
