"""`her2d webhook`: send events to the webhook again, and describe what is sent."""

import json
from contextlib import closing
from typing import Annotated

import typer

from her2d.cli.actor import actor
from her2d.cli.errors import UserError
from her2d.cli.options import MOST_ID, ConfigOption, settings_of
from her2d.cli.periods import SINCE, first_moment
from her2d.cli.terminal import say
from her2d.db.acts import record_act
from her2d.db.connection import open_existing
from her2d.webhook.outbox import Outbox
from her2d.webhook.payload import webhook_schema

app = typer.Typer(help="Send events again, or describe what is sent.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Send events to the webhook again, or describe what is sent."""


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of the documents that the webhook sends."""
    say(json.dumps(webhook_schema(), indent=2))


@app.command("resend")
def resend(
    since: Annotated[str | None, typer.Option(help=SINCE)] = None,
    event: Annotated[
        int | None,
        typer.Option(
            min=0, max=MOST_ID, help="Only this event: 12 for webhook-id her2d-event-12-TIME."
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Queue events for the webhook again.

    Events are those of slides and files that were sent before, or given up. The daemon
    sends them; its settings must name the webhook, those of this command need not. An event keeps
    its webhook-id, so that the receiver can recognise it.
    """
    settings = settings_of(config)
    if (since is None) == (event is None):
        raise UserError("Give either --since or --event.")
    with closing(open_existing(settings.results.database)) as db:
        queued = Outbox(db).send_again(since=first_moment(since), event_id=event)
        if queued:
            record_act(db, "resent", f"{queued} events to the webhook.", actor("webhook resend"))
    # systemd may pass the url only to the daemon, from /etc/her2d/secrets.env.
    url_is_known = settings.webhook.url is not None
    if not queued and not url_is_known:
        raise UserError("Nothing was queued: no event matches, and [webhook] url is not set.")
    if event is not None and not queued:
        raise UserError(f"Event {event} was never sent to the webhook.")
    say(f"Queued {queued} event{'' if queued == 1 else 's'} for the webhook.")
    if not url_is_known:
        say("[webhook] url is not set here. A daemon whose settings have it will send them.")
