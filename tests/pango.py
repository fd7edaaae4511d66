"""Tests that write a PDF need Pango, which WeasyPrint sets text with."""

import ctypes.util

import pytest

needs_pango = pytest.mark.skipif(
    ctypes.util.find_library("pango-1.0") is None,
    reason="Pango is not installed (apt install libpango-1.0-0 libpangoft2-1.0-0)",
)
