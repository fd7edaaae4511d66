"""Named queries as CSV and JSON."""

import csv
import io
from contextlib import closing

import httpx
import pytest
from browse_client import BEARER, get
from typer.testing import CliRunner

from her2d.browse import downloads
from her2d.browse.downloads import QUERIES
from her2d.browse.workers import TooBusy
from her2d.cli.app import app
from her2d.db.connection import open_database


def table(site, address: str) -> list[dict[str, str]]:
    found = site.get(address)
    assert found.status_code == 200
    assert found.headers["content-type"].startswith("text/csv")
    assert found.headers["content-disposition"].startswith("attachment")
    return list(csv.DictReader(io.StringIO(found.text, newline="")))


@pytest.fixture
def two_at_once(monkeypatch):
    monkeypatch.setattr(downloads, "CHUNK", 2)


@pytest.mark.parametrize("name", QUERIES)
def test_every_named_query_has_its_columns(own_site, name):
    found = own_site.get(f"/queries/{name}.csv").text
    assert tuple(found.splitlines()[0].split(",")) == QUERIES[name].columns
    rows = own_site.get(f"/queries/{name}.json").json()["rows"]
    assert all(tuple(row) == QUERIES[name].columns for row in rows)
    assert 'href="/queries"' in own_site.get("/").text
    assert f"/queries/{name}.csv" in own_site.get("/queries").text


def test_all_rows_are_sent_however_many(own_site, two_at_once):
    assert [row["slide_id"] for row in table(own_site, "/queries/results.csv")] == ["1", "2", "3"]
    first = own_site.get("/queries/results.json?text=tif").json()
    assert [row["slide_id"] for row in first["rows"]] == [1, 2]
    assert first["next"] == "/queries/results.json?text=tif&after=2"
    second = own_site.get(first["next"]).json()
    assert [row["slide_id"] for row in second["rows"]] == [3]
    assert second["next"] is None


def test_results_are_those_of_her2d_results(own_site):
    command = ["results", "--json", "--sort", "name", "--config"]
    found = CliRunner().invoke(app, [*command, str(own_site.folder / "config.toml")])
    rows = own_site.get("/queries/results.json").json()["rows"]
    expected = sorted(httpx.Response(200, text=found.stdout).json(), key=lambda r: r["slide_id"])
    assert rows == expected


def test_results_are_filtered_as_the_list_is(own_site):
    assert len(table(own_site, "/queries/results.csv?status=positive")) == 1
    assert len(table(own_site, "/queries/results.csv?reason=no-tumor")) == 1
    assert len(table(own_site, "/queries/results.csv?text=NEG")) == 1
    assert table(own_site, "/queries/results.csv?flag=blurred") == []


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ('=1+1, "a".tif', '\'=1+1, "a".tif'),
        ("@sum(a1).tif", "'@sum(a1).tif"),
        ("＝1.tif", "'＝1.tif"),
        ("\t=1.tif", "\\t=1.tif"),
        ("\x1b[31mred\n.tif", "\\x1b[31mred\\n.tif"),
        ("\u202efdp.tif", "\\u202efdp.tif"),
    ],
)
def test_no_name_is_a_formula_or_steers_a_terminal(own_site, name, cell):
    with closing(open_database(own_site.folder / "her2d.sqlite")) as db:
        db.execute("update slides set file_name = ?, barcode = ? where id = 1", [name, name])
        db.execute(
            "insert into jobs (path, file_name, inbox, state, reason, size, mtime_ns,"
            " discovered_at) values (?, ?, '', 'quarantined', ?, 1, 1, '2026')",
            [f"/in/{name}", name, f"{name} is bad."],
        )
    (row, *_) = table(own_site, "/queries/results.csv")
    assert row["file_name"] == row["barcode"] == cell
    assert row["high_expression_percent"] == "60.0"
    (job,) = table(own_site, "/queries/files.csv")
    assert job["file_name"] == cell
    for address in ("/", "/slides/id:1", "/?text=1", "/queries/files.json"):
        text = own_site.get(address).text
        assert not {"\x1b", "\u202e"} & set(text)
    assert own_site.get("/queries/results.json").json()["rows"][0]["file_name"] == name


def test_there_is_no_other_sql(site):
    for address in (
        "/her2d.json?sql=select+1",
        "/her2d/-/query?sql=select+1",
        "/her2d",
        "/-/plugins",
    ):
        assert site.get(address).status_code == 404
    for parameter in ("sql", "_where", "_shape", "_facet", "_sort"):
        assert site.get(f"/queries/results.json?{parameter}=1").status_code == 400


def test_a_download_that_fails_in_the_middle_is_cut_off(own_site, two_at_once, monkeypatch):
    results_after = downloads.results_after

    def failing(db, wanted, after, limit):
        if after:
            raise TooBusy("The database is locked.")
        return results_after(db, wanted, after, limit)

    monkeypatch.setattr(downloads, "results_after", failing)
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        get(f"{own_site.url}/queries/results.csv", BEARER)
    assert own_site.get("/").status_code == 200
