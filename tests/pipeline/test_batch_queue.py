"""A bounded queue whose consumer takes batches."""

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from her2d.pipeline.batch_queue import BatchQueue


def test_a_full_batch_does_not_wait_to_fill():
    queue: BatchQueue[int] = BatchQueue(8)
    for item in range(5):
        queue.put(item)
    assert queue.take(4, fill_s=3600) == [0, 1, 2, 3]


def test_the_last_items_form_a_partly_filled_batch():
    queue: BatchQueue[int] = BatchQueue(8)
    queue.put(1)
    assert queue.take(4, fill_s=0.01) == [1]


def test_a_full_queue_gives_a_batch_smaller_than_requested_without_a_wait():
    queue: BatchQueue[int] = BatchQueue(2)
    queue.put(1)
    queue.put(2)
    assert queue.take(4, fill_s=3600) == [1, 2]


def test_a_full_queue_blocks_its_producer_until_an_item_is_taken():
    queue: BatchQueue[int] = BatchQueue(1)
    queue.put(1)
    producer = threading.Thread(target=queue.put, args=(2,))
    producer.start()
    assert len(queue) == 1
    assert queue.take(1, fill_s=0) == [1]
    producer.join()
    assert queue.take(1, fill_s=0) == [2]


def test_a_producer_whose_slide_was_cancelled_does_not_wait():
    queue: BatchQueue[int] = BatchQueue(1)
    queue.put(1)
    assert queue.put(2, abandoned=lambda: True) is False
    assert len(queue) == 1


def test_a_closed_queue_is_drained_and_then_empty():
    queue: BatchQueue[int] = BatchQueue(4)
    queue.put(1)
    queue.close()
    assert queue.put(2) is False
    assert queue.take(4, fill_s=3600) == [1]
    assert queue.take(4, fill_s=3600) == []


def test_closing_wakes_a_waiting_consumer():
    queue: BatchQueue[int] = BatchQueue(4)
    batches: list[list[int]] = []
    consumer = threading.Thread(target=lambda: batches.append(queue.take(4, fill_s=3600)))
    consumer.start()
    queue.close()
    consumer.join()
    assert batches == [[]]


@given(
    producers=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    capacity=st.integers(1, 5),
    batch=st.integers(1, 7),
)
def test_every_item_comes_out_once_and_each_producers_in_order(producers, capacity, batch):
    queue: BatchQueue[tuple[int, int]] = BatchQueue(capacity)

    def produce(producer: int, items: int) -> None:
        for item in range(items):
            assert queue.put((producer, item))

    threads = [threading.Thread(target=produce, args=pair) for pair in enumerate(producers)]
    for thread in threads:
        thread.start()
    taken: list[tuple[int, int]] = []
    while len(taken) < sum(producers):
        found = queue.take(batch, fill_s=0)
        assert 0 < len(found) <= batch
        taken += found
    for thread in threads:
        thread.join()
    for producer, items in enumerate(producers):
        assert [item for which, item in taken if which == producer] == list(range(items))


def test_the_time_that_producers_wait_for_room_is_counted():
    queue = BatchQueue(1)
    queue.put("first")
    assert queue.blocked_s == 0.0
    waits = threading.Event()

    def make_room() -> None:
        waits.wait()
        time.sleep(0.2)
        queue.take(1, fill_s=0.0)

    def is_abandoned() -> bool:
        waits.set()
        return False

    thread = threading.Thread(target=make_room)
    thread.start()
    assert queue.put("second", abandoned=is_abandoned)
    thread.join()
    assert queue.blocked_s >= 0.15
