"""How long this process has read and decoded blocks of slides, over all threads and slides."""

from her2d.system.stopwatch import Stopwatch

block_time = Stopwatch()
"""Reading blocks and decoding them."""

read_time = Stopwatch()
"""Of that, waiting for storage. What another library reads by itself is not in it."""
