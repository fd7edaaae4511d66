"""A small laboratory to show real output of: two bundles, one slide, one broken file."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from typer.testing import CliRunner

from her2d.cli import app
from her2d.db.connection import open_database
from her2d.webhook.outbox import Outbox

_VERSION = re.compile(r'^version = "[^"]*"', re.MULTILINE)
_BUNDLE = Path("engines/her2net-demo")
_CONFIG = """
[intake]
inboxes = ["inbox"]

[bundle]
path = "engines/{bundle}"

[results]
database = "her2d.sqlite"
heatmaps = "heatmaps"
backups = "backups"
"""
_OUTCOMES = """\
slide,ihc,fish,ihc_percent,patient,read_on,read_by
slide.tif,2+,amplified,35,case-17,2026-03-01,Dr A. Li
"""


@dataclass(frozen=True, slots=True)
class ExampleSite:
    """A folder with `config.toml`, `slide.tif`, the database that both bundles filled, and the
    shipped bundle in its usual place."""

    folder: Path

    def her2d(self, *arguments: str, fails: bool | None = False) -> str:
        """Return what `her2d ARGUMENTS` prints there.

        Args:
            arguments: the command line.
            fails: whether it is to end with an error; None where that depends on this machine.

        Raises:
            RuntimeError: it ended otherwise.
        """
        with chdir(self.folder):
            done = CliRunner().invoke(app, arguments, env={"COLUMNS": "100"})
        if fails is not None and (done.exit_code != 0) is not fails:
            raise RuntimeError(f"her2d {' '.join(arguments)}: {done.exception!r} {done.stderr}")
        return done.stdout.replace(f"{self.folder}/", "/srv/her2d/")

    def json(self, *arguments: str, fails: bool | None = False) -> Any:
        """The same, from JSON."""
        return json.loads(self.her2d(*arguments, "--json", fails=fails))

    def calibration(self) -> str:
        """What a signed calibration on the one slide says; it is not used afterwards."""
        self.her2d("calibrate", "--sensitivity", "0.5", "--signed-by", "Dr A. Li")
        file = self.folder / "engines" / f"{_BUNDLE.name}.calibration.toml"
        text = file.read_text()
        file.unlink()
        return text

    def webhook_documents(self) -> dict[str, Any]:
        """Type -> the JSON that the webhook sends for such an event."""
        documents = {}
        with closing(open_database(self.folder / "her2d.sqlite")) as db:
            outbox = Outbox(db)
            outbox.begin()
            db.execute("update jobs set barcode = '900444' where id = 1")
            db.execute(
                "insert into jobs (id, path, file_name, inbox, state, size, mtime_ns, slide_id,"
                " discovered_at) values (99, ?, 'slide.tif', '', 'duplicate', 1, 1, 1,"
                " '2026-03-02T09:32:30.000000Z')",
                [str(self.folder / "slide.tif")],
            )
            db.execute(
                "insert into former_names (slide_id, file_name, path, until) values"
                " (1, 'scan.tif', 'scan.tif', '2026-03-02T09:34:00.000000Z')"
            )
            db.execute(
                "insert into events (at, job_id, slide_id, name, detail) values"
                " ('2026-03-02T09:30:00.000000Z', null, 1, 'done', null),"
                " ('2026-03-02T09:31:00.000000Z', 1, null, 'failed',"
                "  'broken.tif cannot be read: Input/output error.'),"
                " ('2026-03-02T09:32:00.000000Z', 1, null, 'quarantined',"
                "  'broken.tif is not a TIFF file'),"
                " ('2026-03-02T09:32:30.000000Z', 1, null, 'cancelled',"
                "  'Cancelled by an operator.'),"
                " ('2026-03-02T09:33:00.000000Z', 99, null, 'duplicate',"
                "  'The same scan was already processed as slide 1.'),"
                " ('2026-03-02T09:34:00.000000Z', 99, 1, 'renamed', 'scan.tif is now slide.tif.')"
            )
            while (event := outbox.next()) is not None:
                text = outbox.document(event).decode().replace(f"{self.folder}/", "/srv/her2d/")
                documents[event.type] = json.loads(text)
                outbox.done(event)
        return documents


@contextmanager
def example_site() -> Iterator[ExampleSite]:
    """Make it, and remove it after. Run from the repository's root."""
    with TemporaryDirectory(prefix="her2d-docs-") as name:
        folder = Path(name).resolve()
        for bundle, version in (("her2net-demo", "1"), ("her2net-other", "2")):
            shutil.copytree(_BUNDLE, folder / "engines" / bundle)
            manifest = folder / "engines" / bundle / "manifest.toml"
            text = _VERSION.sub(f'version = "{version}"', manifest.read_text(), count=1)
            if version != "1":
                text = text.replace('name = "her2net-demo"', f'name = "{bundle}"')
            manifest.write_text(text)
            (folder / f"{bundle}.toml").write_text(_CONFIG.format(bundle=bundle))
        (folder / "her2net-demo.toml").rename(folder / "config.toml")
        (folder / "inbox").mkdir()
        (folder / "archive-2025").mkdir()
        (folder / "broken.tif").write_text("not a slide\n")
        site = ExampleSite(folder)
        site.her2d(
            *("simulate", "cohort", "sim", "--slides", "1", "--seed", "4", "--positive", "1"),
            *("--width", "1100", "--height", "1100"),
        )
        shutil.move(next((folder / "sim" / "he").glob("*.tif")), folder / "slide.tif")
        site.her2d("scan", "slide.tif", "broken.tif", fails=True)
        site.her2d("scan", "slide.tif", "--config", "her2net-other.toml")
        (folder / "ihc.csv").write_text(_OUTCOMES)
        site.her2d("outcomes", "import", "ihc.csv")
        yield site
