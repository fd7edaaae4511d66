"""Typer commands. Each parses its arguments, calls the package and prints the outcome."""

import os

from her2d.system.cpus import bound_thread_pools
from her2d.system.imports import importing_much

# Before the first import of NumPy, whose BLAS starts its threads at once. Only a command imports
# this package, so that the threads of another program are left to it.
bound_thread_pools()

# Or pydantic searches all installed packages for plugins, of which her2d needs none.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

with importing_much():
    from her2d.cli.app import app, main

__all__ = ["app", "main"]
