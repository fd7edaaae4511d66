"""The one base of every error that her2d raises."""


class Her2dError(Exception):
    """Something that her2d foresaw went wrong; `str(error)` says what, in one sentence."""
