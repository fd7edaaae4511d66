"""Write the report's page as PDF, with nothing that the page does not hold itself."""

import importlib
import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from her2d.errors import Her2dError
from her2d.system.files import PUBLIC, write_whole


class PdfError(Her2dError):
    """The PDF cannot be made; `str(error)` says why and what to install."""


def write_pdf(page: str, path: Path) -> None:
    """Write a self-contained HTML page as PDF; the same page gives the same bytes.

    Args:
        page: The page; it may hold data URLs, and nothing else is loaded.
        path: The file to write.

    Raises:
        PdfError: Pango, which WeasyPrint sets text with, is not installed.
        OSError: The file cannot be written.
    """
    weasyprint = _weasyprint()
    embedded_only = weasyprint.URLFetcher(allowed_protocols={"data"})
    document = weasyprint.HTML(string=page, url_fetcher=embedded_only)
    write_whole(path, document.write_pdf(), mode=PUBLIC)


def _weasyprint() -> Any:
    try:
        # It prints a page of advice where a library is missing.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            return importlib.import_module("weasyprint")
    except OSError as error:
        raise PdfError(
            "The report cannot be written as PDF because the library Pango is missing. Install it"
            " with `apt install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0`, and run"
            " `her2d evaluate pdf`."
        ) from error
