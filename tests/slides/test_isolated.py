"""Decoders in child processes that are ended from outside, as by a system without memory."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from handmade_tiff import SHORT, write_image
from numpy.typing import NDArray

from her2d.processing.retry_policy import Action, JobFile, decide
from her2d.slides import isolated
from her2d.slides.isolated import DecoderCrashedError, IsolatedDecoder
from her2d.slides.reader import open_slide
from her2d.system.shortage import OwnShortageError

Picture = NDArray[np.uint8]
MOST_BYTES = 256 * 256 * 3


@pytest.fixture
def block(picture: Callable[..., Picture]) -> bytes:
    return bytes(imagecodecs.jpegxr_encode(picture(256, 256), level=90))


@pytest.fixture
def decoder(block: bytes) -> IsolatedDecoder:
    """A decoder with one child, which waits for a block."""
    decoder = IsolatedDecoder("jpegxr")
    decoder.decode(block, MOST_BYTES)
    return decoder


def child_of(decoder: IsolatedDecoder) -> "subprocess.Popen[bytes]":
    (child,) = decoder._idle
    return child


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_that_another_program_ended_is_a_shortage_and_not_the_blocks_fault(
    decoder: IsolatedDecoder, block: bytes, ended_by: signal.Signals
) -> None:
    child_of(decoder).send_signal(ended_by)
    with pytest.raises(OwnShortageError, match="ended from outside"):
        decoder.decode(block, MOST_BYTES)
    assert decoder.decode(block, MOST_BYTES).shape == (256, 256, 3)  # by another child


def test_a_child_that_is_ended_while_it_decodes_is_a_shortage_too(
    decoder: IsolatedDecoder, block: bytes
) -> None:
    child = child_of(decoder)
    child.send_signal(signal.SIGSTOP)  # as long as it decodes

    def end() -> None:
        time.sleep(0.2)
        child.kill()

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(OwnShortageError):
        decoder.decode(block, MOST_BYTES)
    thread.join()


@pytest.mark.parametrize("dies_by", [signal.SIGSEGV, signal.SIGABRT, signal.SIGALRM])
def test_a_child_that_crashes_or_takes_too_long_is_the_blocks_fault(
    decoder: IsolatedDecoder, block: bytes, dies_by: signal.Signals
) -> None:
    child_of(decoder).send_signal(dies_by)
    with pytest.raises(DecoderCrashedError):
        decoder.decode(block, MOST_BYTES)
    assert decoder.decode(block, MOST_BYTES).shape == (256, 256, 3)


def test_no_child_is_left_behind(decoder: IsolatedDecoder, block: bytes) -> None:
    pid = child_of(decoder).pid
    child_of(decoder).kill()
    with pytest.raises(OwnShortageError):
        decoder.decode(block, MOST_BYTES)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_slide_whose_decoder_is_killed_waits_and_loses_no_attempt(
    block: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jpeg_xr = {259: (SHORT, [34934]), 262: (SHORT, [2]), 322: (SHORT, [256]), 323: (SHORT, [256])}
    path = write_image(tmp_path / "a.tif", (512, 512), [block] * 4, jpeg_xr)
    ask = isolated._ask

    def killed(child: "subprocess.Popen[bytes]", data: bytes, most_bytes: int) -> object:
        child.kill()
        return ask(child, data, most_bytes)

    with open_slide(path) as slide:
        monkeypatch.setattr(isolated, "_ask", killed)
        with pytest.raises(OwnShortageError) as raised:
            list(slide.tiles())
    decision = decide(raised.value, JobFile(path, is_swept=True))
    assert decision.action is Action.POSTPONE
    assert decision.reason == "her2d lacks threads or processes. The file is not the cause."
