"""Typer commands. Each parses its arguments, calls the package and prints the outcome."""

from her2d.system.cpus import bound_thread_pools

# Before the first import of NumPy, whose BLAS starts its threads at once. Only a command imports
# this package, so that the threads of another program are left to it.
bound_thread_pools()

from her2d.cli.app import app, main  # noqa: E402

__all__ = ["app", "main"]
