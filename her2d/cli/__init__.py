"""Typer commands. Each parses its arguments, calls the package and prints the outcome."""

from her2d.cli.app import app, main

__all__ = ["app", "main"]
