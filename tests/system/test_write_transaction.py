"""Transactions that write."""

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlite_utils import Database

import her2d
from her2d.system.write_transaction import write_transaction


@pytest.fixture
def path(tmp_path):
    db = Database(tmp_path / "numbers.sqlite")
    db.enable_wal()
    db.table("numbers").insert({"n": 1})
    db.close()
    return tmp_path / "numbers.sqlite"


def total(db: Database) -> int:
    return int(db.execute("select sum(n) from numbers").fetchone()[0])


def test_readers_that_then_write_wait_for_each_other_and_none_fails(path):
    def double(failures: list[sqlite3.Error]) -> None:
        db = Database(sqlite3.connect(path, timeout=60))
        try:
            for _ in range(10):
                with write_transaction(db):
                    db.execute("insert into numbers values (?)", [total(db)])
        except sqlite3.Error as error:
            failures.append(error)
        finally:
            db.close()

    failures: list[sqlite3.Error] = []
    threads = [threading.Thread(target=double, args=[failures]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert total(Database(path)) == 2**40


def add_and_fail(db: Database) -> None:
    with write_transaction(db):
        db.execute("insert into numbers values (100)")
        raise ValueError("half way")


def test_nothing_is_changed_if_the_block_fails(path):
    db = Database(path)
    with pytest.raises(ValueError, match="half way"):
        add_and_fail(db)
    assert total(db) == 1


def test_a_block_within_another_is_undone_alone(path):
    db = Database(path)
    with write_transaction(db):
        db.execute("insert into numbers values (10)")
        with pytest.raises(ValueError, match="half way"):
            add_and_fail(db)
    assert total(Database(path)) == 11


def test_no_module_begins_a_transaction_that_may_read_before_it_holds_the_lock():
    package = Path(her2d.__file__).parent
    found = [
        str(module.relative_to(package))
        for module in package.rglob("*.py")
        if ".atomic()" in module.read_text()
    ]
    assert found == ["system/write_transaction.py"]
