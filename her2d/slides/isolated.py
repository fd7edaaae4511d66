"""Decode JPEG XL and JPEG XR in a child process.

jxrlib, the decoder of JPEG XR, reads outside its memory on corrupt data and crashes the process.
JPEG XL can state the size of a frame deep within compressed data, where it cannot be checked before
the decoder allocates memory. So both are decoded by a child process, whose memory and time are
limited. If it dies, the block cannot be read, and the next block gets another child.

A child runs this file. It reads blocks, each a length and its bytes. To each it answers with the
shape and the bytes of a sample, then the pixels; a shape of zeros means an error, and a length and
a text follow.
"""

import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
import weakref
from typing import IO

import numpy as np
from numpy.typing import NDArray

from her2d.errors import Her2dError

_MEMORY = 3 * 2**30  # bytes of address space: the libraries and a block of 256 MiB as float32
_DYING_S = 1.0  # between the end of a child's pipe and that of the child
_SECONDS = 60  # for one block
_LENGTH, _ANSWER = struct.Struct("<I"), struct.Struct("<4I")
_MAX_TEXT = 200


class DecoderCrashedError(Her2dError):
    """The child process died: of corrupt data, of its limits, or it was ended from outside."""


class IsolatedDecoder:
    """Decode with one codec; several threads may call `decode` at a time, each with its child.

    Children end when the object is garbage-collected, or when this process ends.
    """

    def __init__(self, codec: str) -> None:
        """Name the codec; children are started when they are needed.

        Args:
            codec: "jpegxl" or "jpegxr".
        """
        self._codec = codec
        self._idle: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _end_all, self._idle)

    def decode(self, data: bytes, most_bytes: int) -> NDArray[np.generic]:
        """Decode a block.

        Args:
            data: the block.
            most_bytes: that its pixels can have.

        Raises:
            ValueError: the decoder refuses the data, or the pixels have more bytes.
            DecoderCrashedError: the decoder crashed.
            OwnShortageError: no process could be started, or the system ended it.
        """
        with self._lock:
            child = self._idle.pop() if self._idle else None
        child = child or _start(self._codec)
        try:
            pixels = _ask(child, data, most_bytes)
        except ValueError:
            self._keep(child)
            raise
        except BaseException as error:
            if not isinstance(error, OSError | EOFError):
                _end(child)
                raise
            if _was_killed(child):
                from her2d.system.shortage import OwnShortageError

                raise OwnShortageError("A decoder's process was ended from outside.") from error
            raise DecoderCrashedError("its decoder crashed") from error
        self._keep(child)
        return pixels

    def _keep(self, child: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._idle.append(child)


def _start(codec: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable, "-I", __file__, codec],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
    except OSError as error:
        from her2d.system.shortage import OwnShortageError  # not needed in the child

        raise OwnShortageError(f"A decoder's process cannot be started: {error}.") from error


def _ask(child: subprocess.Popen[bytes], data: bytes, most_bytes: int) -> NDArray[np.generic]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(_LENGTH.pack(len(data)))
    child.stdin.write(data)
    child.stdin.flush()
    height, width, samples, itemsize = _ANSWER.unpack(_read(child.stdout, _ANSWER.size))
    size = height * width * samples * itemsize
    if size == 0:
        (length,) = _LENGTH.unpack(_read(child.stdout, _LENGTH.size))
        raise ValueError(_read(child.stdout, length).decode("utf-8", "replace"))
    if size > most_bytes:
        raise EOFError  # more than was asked for is not read; the child is ended
    pixels = np.frombuffer(_read(child.stdout, size), f"u{itemsize}")
    return pixels.reshape(height, width, samples)


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _was_killed(child: subprocess.Popen[bytes]) -> bool:
    """End a child that does not answer, and return whether another program had ended it.

    The system does so if memory is short. A decoder that crashes dies by other signals.
    """
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_DYING_S)
    was_killed = child.returncode in (-signal.SIGKILL, -signal.SIGTERM)
    _end(child)
    return was_killed


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    for stream in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):  # what is still to be written has no reader
            if stream is not None:
                stream.close()
    child.wait()


def _end_all(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        _end(child)


def _serve(codec: str) -> None:
    """Decode the blocks that come on standard input until it ends."""
    import resource

    import imagecodecs

    decode = imagecodecs.jpegxl_decode if codec == "jpegxl" else imagecodecs.jpegxr_decode
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    blocks, answers = sys.stdin.buffer, sys.stdout.buffer
    while header := blocks.read(_LENGTH.size):
        data = blocks.read(*_LENGTH.unpack(header))
        signal.alarm(_SECONDS)  # its signal ends the process, even within the decoder
        try:
            pixels = np.atleast_3d(decode(data))
        except Exception as error:  # noqa: BLE001 - each codec has its own errors
            text = " ".join(str(error).split()).encode()[:_MAX_TEXT] or b"corrupt data"
            answers.write(_ANSWER.pack(0, 0, 0, 0) + _LENGTH.pack(len(text)) + text)
        else:
            answers.write(_ANSWER.pack(*pixels.shape, pixels.dtype.itemsize))
            answers.write(np.ascontiguousarray(pixels).data)
        signal.alarm(0)
        answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
