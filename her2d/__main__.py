"""`python -m her2d`, for where the script is not on PATH."""

from her2d.cli import main

main()
