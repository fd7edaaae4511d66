"""Typer commands, thin: parse, call, print."""

from her2d.cli.app import app, main

__all__ = ["app", "main"]
