"""PyCUDA's device as the runtime uses it, beside other threads and other users of CUDA."""

import ctypes
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from her2d.inference.cuda.device import DeviceOutOfMemoryError, Span

pytestmark = pytest.mark.gpu


@pytest.fixture
def open_device(gpu):
    pytest.importorskip("pycuda.driver")
    from her2d.inference.cuda.pycuda_device import PyCudaDevice

    return PyCudaDevice


@pytest.fixture
def driver(gpu):
    return ctypes.CDLL("libcuda.so.1")


def context_here(driver) -> int | None:
    found = ctypes.c_void_p()
    assert driver.cuCtxGetCurrent(ctypes.byref(found)) == 0
    return found.value


def primary_is_active(driver) -> bool:
    flags, active = ctypes.c_uint(), ctypes.c_int()
    assert driver.cuDevicePrimaryCtxGetState(0, ctypes.byref(flags), ctypes.byref(active)) == 0
    return bool(active.value)


def in_another_thread(do) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except BaseException as error:  # noqa: BLE001  raised again below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_closing_releases_the_context_and_leaves_it_current_in_no_thread(
    open_device, driver, elsewhere
):
    # torch may use the context too, and TensorRT leaves it current where it compiled.
    held, here = primary_is_active(driver), context_here(driver)
    device = open_device()
    assert primary_is_active(driver)

    def close() -> None:
        before = context_here(driver)
        device.close()
        assert context_here(driver) == before

    in_another_thread(close) if elsewhere else close()
    assert primary_is_active(driver) == held
    assert context_here(driver) == here


def test_opening_and_closing_leave_another_context_current(open_device, driver):
    here = context_here(driver)
    theirs = open_device()
    with theirs.current():
        before = context_here(driver)
        device = open_device()
        with device.current():
            device.allocate(1 << 20).free()
        device.close()
        assert context_here(driver) == before
        theirs.allocate(1 << 20).free()
    theirs.close()
    assert context_here(driver) == here


def test_bytes_go_there_and_come_back_from_any_thread(open_device):
    device = open_device()
    sent = np.random.default_rng(0).integers(0, 256, 1 << 20, dtype=np.uint8)
    with device.current():
        buffer, twin = device.allocate(len(sent)), device.allocate(len(sent))
        page_locked, stream, event = device.page_lock(len(sent)), device.stream(), device.event()

    def there_and_back() -> None:
        with device.current():
            page_locked.write(0, sent)
            device.copy_in(Span(buffer), page_locked, len(sent), stream)
            stream.record(event)
            event.synchronize()
            page_locked.write(0, np.zeros_like(sent))
            device.copy(Span(twin), Span(buffer, 512), 1024, stream)
            device.copy_out(page_locked, 256, Span(twin), 1024, stream)
            stream.record(event)
            event.synchronize()
            assert np.array_equal(page_locked.read(256, 1024), sent[512:1536])
            assert not page_locked.read(0, 256).any()

    in_another_thread(there_and_back)
    there_and_back()
    with device.current():
        for resource in (event, stream, page_locked, twin, buffer):
            resource.free()
    device.close()


def test_an_allocation_that_does_not_fit_is_out_of_memory_and_the_device_still_works(open_device):
    device = open_device()
    with device.current():
        with pytest.raises(DeviceOutOfMemoryError, match="out of memory"):
            device.allocate(1 << 50)
        device.allocate(1 << 20).free()
    device.close()


LOST_BEFORE_FREEING = """
import ctypes, sys, time
from contextlib import suppress
from pathlib import Path

from her2d.inference.engine import DeviceLostError
from her2d.inference.cuda.pycuda_device import PyCudaDevice, handle

device, trigger = PyCudaDevice(), Path(sys.argv[1])
driver = ctypes.CDLL("libcuda.so.1")
nothing = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
with suppress(DeviceLostError), device.current():
    stream = device.stream()
    resources = [device.allocate(1 << 20), device.page_lock(1 << 20), device.event(), stream]
    trigger.touch()
    driver.cuLaunchHostFunc(ctypes.c_void_p(handle(stream).handle), nothing, None)
    while trigger.exists():
        time.sleep(0.01)
    for resource in resources:
        resource.free()
"""


def test_freeing_asks_first_whether_the_device_is_lost_so_that_pycuda_prints_nothing(
    is_simulated, tmp_path
):
    pytest.importorskip("pycuda.driver")
    if not is_simulated:
        pytest.skip("only a simulated device can be lost at will")
    trigger = tmp_path / "lose"
    done = subprocess.run(
        [sys.executable, "-c", LOST_BEFORE_FREEING, str(trigger)],
        check=False,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "SIMULATED_GPU_LOSE": str(trigger),
            # It leaves what a lost device holds, for which these tests' own account has no place.
            "SIMULATED_GPU_REPORT": str(tmp_path / "report"),
        },
    )
    assert done.stderr == ""
    assert done.returncode == 0
