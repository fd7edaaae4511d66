"""The documentation site's reference pages, rendered from the code that they describe.

`hook.py` hands them to MkDocs (`make docs`); nothing that is rendered is kept in the repository.
"""
