"""Keep formulas out of the CSV files that Datasette offers for every table and view."""

import csv
import io
from typing import Any

from her2d.browse.hosts import App, Scope
from her2d.system.text import no_formula


def without_formulas(app: App) -> App:
    """Wrap an ASGI application; no cell of a CSV file that it sends is a spreadsheet's formula."""

    async def wrapped(scope: Scope, receive: Any, send: Any) -> None:
        is_csv = False

        async def send_safely(message: dict[str, Any]) -> None:
            nonlocal is_csv
            if message["type"] == "http.response.start":
                is_csv = message["status"] == 200 and scope["path"].endswith(".csv")
            elif is_csv and message.get("body"):
                message = {**message, "body": _safe_rows(message["body"])}
            await send(message)

        await app(scope, receive, send_safely)

    return wrapped


def _safe_rows(body: bytes) -> bytes:
    """Return whole rows with safe cells; Datasette sends each row as a message."""
    rows = csv.reader(io.StringIO(body.decode("utf-8"), newline=""))
    out = io.StringIO(newline="")
    table = csv.writer(out)
    for row in rows:
        table.writerow([cell if _is_number(cell) else no_formula(cell) for cell in row])
    return out.getvalue().encode("utf-8")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and cell == cell.strip()
