"""The report as PDF."""

import importlib

import pytest
from pango import needs_pango

from her2d.research.evaluation.pdf import PdfError, write_pdf

PAGE = (
    "<h1>Evaluation</h1><svg width='90' height='90' viewBox='0 0 9 9'><circle r='4'/></svg>"
    "<img alt='' src='data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=='>"
)


@needs_pango
def test_the_same_page_gives_the_same_bytes(tmp_path):
    one, other = tmp_path / "one.pdf", tmp_path / "other.pdf"
    write_pdf(PAGE, one)
    write_pdf(PAGE, other)
    assert one.read_bytes().startswith(b"%PDF-")
    assert one.read_bytes() == other.read_bytes()


@needs_pango
def test_nothing_beside_the_page_is_read(tmp_path):
    secret = tmp_path / "secret.svg"
    secret.write_text("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>")
    with_file, without = tmp_path / "with.pdf", tmp_path / "without.pdf"
    write_pdf(f"{PAGE}<img src='file://{secret}'>", with_file)
    write_pdf(f"{PAGE}<img src='data:,'>", without)
    assert with_file.read_bytes() == without.read_bytes()


def test_without_pango_the_reason_and_the_way_out_are_one_sentence_each(tmp_path, monkeypatch):
    def without_pango(name):
        raise OSError("cannot load library 'libpango-1.0-0'")

    monkeypatch.setattr(importlib, "import_module", without_pango)
    with pytest.raises(PdfError, match="Pango is missing") as raised:
        write_pdf(PAGE, tmp_path / "report.pdf")
    assert "apt install libpango-1.0-0" in str(raised.value)
    assert not (tmp_path / "report.pdf").exists()
