"""`her2d webhook resend`: tell the webhook's receiver once more."""

from contextlib import closing
from typing import Annotated

import typer

from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, settings_of
from her2d.cli.periods import SINCE, first_moment
from her2d.db.connection import open_existing
from her2d.webhook.outbox import Outbox

app = typer.Typer(help="What the webhook's receiver is told.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """What the webhook's receiver is told."""


@app.command("resend")
def resend(
    since: Annotated[str | None, typer.Option(help=SINCE)] = None,
    event: Annotated[
        int | None, typer.Option(help="Only this one: 12 for webhook-id her2d-event-12-20260101T…")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Queue results, failures and quarantines that were told or given up before once more.

    The running daemon sends them, or the next one; its settings must name the webhook, not those of
    this command. Each keeps its webhook-id, so that a receiver which has it already can tell; those
    told before ids held a time have new ones.
    """
    settings = settings_of(config)
    if (since is None) == (event is None):
        raise UserError("Give either --since or --event.")
    with closing(open_existing(settings.results.database)) as db:
        queued = Outbox(db).send_again(since=first_moment(since), event_id=event)
    # systemd may give the url to the daemon alone, from /etc/her2d/secrets.env.
    url_is_known = settings.webhook.url is not None
    if not queued and not url_is_known:
        raise UserError(
            "Nothing is queued: [webhook] url is not set, and no webhook was told of it."
        )
    if event is not None and not queued:
        raise UserError(f"Event {event} is nothing that the webhook's receiver was told.")
    typer.echo(f"{queued} events are queued for the webhook.")
    if not url_is_known:
        typer.echo("[webhook] url is not set here: a daemon sends them whose settings name one.")
