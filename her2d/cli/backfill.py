"""`her2d backfill`: score folders of older scans beside the new ones, and show how far that is."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from her2d.cli.actor import actor
from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, JsonOption, settings_of
from her2d.cli.terminal import say
from her2d.db.connection import changing, open_readonly
from her2d.db.lock import AlreadyRunningError, require_no_daemon
from her2d.queue.backfills import Backfill, BackfillProgress, Backfills
from her2d.queue.job import JobState
from her2d.queue.store import problem_of_name
from her2d.settings import Settings
from her2d.system.clock import as_text, local_time
from her2d.system.text import printable

_LOOK_S = 2.0
_LOOK_IN_A_PIPE_S = 30.0
_ASIDE = (JobState.QUARANTINED, JobState.DUPLICATE, JobState.CANCELLED, JobState.VANISHED)


def backfill(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER", help="Folders of older scans. Default: all so far."),
    ] = None,
    pause: Annotated[bool, typer.Option("--pause", help="Score no more of them for now.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with them.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show the progress until they are scored.")
    ] = False,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Refuse unless [cluster] address has other machines score."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score folders of older scans after new ones, and show progress.

    The daemon searches the folders and scores what has no result, on this machine or on a cluster.
    New scans go first. It goes on after a restart, and this command need not run meanwhile.
    """
    settings = settings_of(config)
    if pause and resume:
        raise UserError("--pause and --resume exclude each other.")
    if follow and as_json:
        raise UserError("--follow and --json exclude each other.")
    if cluster:
        _require_cluster(settings, folders or [])
    wanted = [folder.resolve() for folder in folders or []]
    if pause or resume:
        _change(settings, wanted, pause=pause, resume=resume)
    elif wanted:
        _request(settings, wanted)
    _show(settings, wanted, follow=follow, as_json=as_json)


def _require_cluster(settings: Settings, folders: Sequence[Path]) -> None:
    """Raise UserError if this machine alone scores, or an address was given as well."""
    for folder in folders:
        is_address = str(folder) == "auto" or str(folder).startswith("ray:/")
        if is_address and not folder.exists():
            raise UserError(
                "--cluster takes no address: the daemon is connected to that of [cluster] address."
            )
    if not settings.cluster.address:
        raise UserError(
            "[cluster] address is empty: this machine alone would score the slides. Set it, or"
            " leave --cluster out."
        )


def _request(settings: Settings, folders: Sequence[Path]) -> None:
    for folder in folders:
        _require_usable(folder, settings)
    with _backfills(settings) as backfills:
        for folder in folders:
            backfills.request(folder, actor("backfill"))


def _require_usable(folder: Path, settings: Settings) -> None:
    """Raise UserError if the daemon could not take a folder's scans."""
    try:
        is_folder = folder.is_dir()
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror or error}.") from error
    if not is_folder:
        raise UserError(f"There is no folder {folder}.")
    if problem_of_name(folder / "scan.tif") is not None:
        raise UserError(
            f"The name of {folder} is not UTF-8, or has a backslash and x with two digits in it."
            " Rename the folder."
        )
    for inbox in settings.intake.inboxes:
        if folder.is_relative_to(inbox.resolve()):
            raise UserError(
                f"{folder} is in the inbox {inbox}, where the daemon finds scans without this."
            )


def _change(settings: Settings, folders: Sequence[Path], *, pause: bool, resume: bool) -> None:
    with _backfills(settings) as backfills:
        for found in _chosen(backfills, folders):
            if pause and found.paused_at is None:
                backfills.pause(found, actor("backfill --pause"))
            elif resume and found.paused_at is not None:
                backfills.resume(found, actor("backfill --resume"))


def _chosen(backfills: Backfills, folders: Sequence[Path]) -> list[Backfill]:
    """Return the back-fills of the folders, or all. Raises UserError if one has none."""
    known = {found.folder: found for found in backfills.all()}
    for folder in folders:
        if folder not in known:
            raise UserError(
                f"{folder} is not back-filled. See her2d backfill for the folders that are."
            )
    return [known[folder] for folder in folders] if folders else list(known.values())


def _show(settings: Settings, folders: Sequence[Path], *, follow: bool, as_json: bool) -> None:
    database = settings.results.database
    with closing(open_readonly(database)) as db:
        backfills = Backfills(db)

        def look() -> list[BackfillProgress]:
            return [backfills.progress(found) for found in _chosen(backfills, folders)]

        found = look()
        if as_json:
            say(json.dumps([_as_json(progress) for progress in found], indent=2))
        elif not found:
            say("No folder is back-filled.")
        elif not follow:
            say(_text(found, settings))
        else:
            for now in _until_complete(look, settings):
                found = now
    if follow and found:
        say("All slides have ended.")


def _until_complete(
    look: Callable[[], list[BackfillProgress]], settings: Settings
) -> Iterator[list[BackfillProgress]]:
    """Show the progress whenever it has changed, until every slide has ended."""
    console = Console()
    shown = ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            found = look()
            yield found
            text = _text(found, settings)
            if console.is_terminal:
                live.update(Text("\n".join(map(printable, text.split("\n")))), refresh=True)
            elif text != shown:
                say(text)
            shown = text
            if all(progress.is_complete for progress in found):
                break
            time.sleep(_LOOK_S if console.is_terminal else _LOOK_IN_A_PIPE_S)
    if console.is_terminal:
        say(shown)


def _text(found: Sequence[BackfillProgress], settings: Settings) -> str:
    is_running = _is_running(settings)
    return "\n".join(
        f"{progress.backfill.folder}\n  {' '.join(_sentences(progress, is_running=is_running))}"
        for progress in found
    )


def _is_running(settings: Settings) -> bool:
    try:
        require_no_daemon(settings.results.database)
    except AlreadyRunningError:
        return True
    return False


def _sentences(progress: BackfillProgress, *, is_running: bool) -> Iterator[str]:
    """Yield what a person wants to know, the count first."""
    backfill = progress.backfill
    is_searched = backfill.searched_at is not None
    if progress.slides or is_searched:
        percent = 100 * progress.ended // progress.slides if progress.slides else 100
        yield f"{progress.ended:,} of {progress.slides:,} slides have ended ({percent} %)."
    aside = [f"{progress.jobs[state]:,} {state}" for state in _ASIDE if progress.jobs[state]]
    if aside:
        yield f"Of these {', '.join(aside)}."
    if progress.known and is_searched:
        yield f"{progress.known:,} more were known before."
    if backfill.problem is not None:
        yield backfill.problem
    if progress.is_complete:
        return
    if backfill.paused_at is not None:
        yield f"Paused since {local_time(backfill.paused_at)}. Go on with --resume."
        return
    if not is_running:
        yield "her2d is not running: start it, and it goes on."
        return
    if not is_searched and backfill.problem is None:
        yield "The folder is being searched."
    if progress.left:
        yield _pace(progress)
    if progress.before:
        yield f"New scans go first; {progress.before:,} wait."


def _pace(progress: BackfillProgress) -> str:
    if progress.still_s is not None:
        return (
            f"It stands still: no slide has ended for {_duration(progress.still_s)}."
            " her2d doctor and the log say why."
        )
    if progress.per_hour is None:
        return "Too few slides have ended to say how long it takes."
    digits = 0 if progress.per_hour >= 10 else 1
    pace = f"{progress.per_hour:,.{digits}f} an hour"
    if progress.left_s is None:
        return f"{pace}."
    end = as_text(datetime.now(UTC) + timedelta(seconds=progress.left_s))
    return f"{pace}: about {_duration(progress.left_s)} left, until {local_time(end)}."


def _duration(seconds: float) -> str:
    """Return a time in its two largest units, such as "2 d 22 h"."""
    if seconds < 60:
        return f"{round(seconds)} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _as_json(progress: BackfillProgress) -> dict[str, object]:
    backfill = progress.backfill
    return {
        "folder": str(backfill.folder),
        "requested_at": backfill.requested_at,
        "searched_at": backfill.searched_at,
        "paused_at": backfill.paused_at,
        "problem": backfill.problem,
        "slides": progress.slides,
        "ended": progress.ended,
        "known_before": progress.known if backfill.searched_at is not None else None,
        "jobs": {state.value: number for state, number in progress.jobs.items() if number},
        "per_hour": progress.per_hour,
        "left_s": progress.left_s,
        "still_s": progress.still_s,
        "new_scans_waiting": progress.before,
    }


@contextmanager
def _backfills(settings: Settings) -> Iterator[Backfills]:
    """Open the back-fills for changes. Raises DatabaseError if the database cannot be changed."""
    with changing(settings.results.database) as db:
        yield Backfills(db)
