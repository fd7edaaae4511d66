"""Compare her2d with other programs on the same slide with the same weights (`make peers`).

The other programs are installed in an environment of their own, `.venv-peers`, and never with
her2d. Each contestant is a process on one core that is asked to do the same work again and again,
in turn with the others; what counts is its processor time.
"""
