"""The time that slides wait for their tiles."""

import threading

from her2d.pipeline.decoding import DecodeTally


def test_the_tiles_are_the_same_and_are_counted():
    tally = DecodeTally()
    assert list(tally.timed(iter("abc"))) == ["a", "b", "c"]
    assert tally.tiles == 3


def test_the_time_counts_only_while_the_consumer_waits():
    tally = DecodeTally()
    pause = threading.Event()

    def slow():
        pause.wait(0.2)
        yield "tile"

    for _ in tally.timed(slow()):
        waited = tally.wait_s
        pause.wait(0.5)
    assert waited >= 0.2
    assert tally.wait_s < waited + 0.5


def test_slides_on_several_threads_add_up():
    tally = DecodeTally()
    threads = [
        threading.Thread(target=lambda: list(tally.timed(iter(range(1000))))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.tiles == 4000
