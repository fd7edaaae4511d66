"""The daemon's side of a cluster, with a driver process that the test plays."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from captured_logs import capture_logs
from touched_files import rewrite_in_place
from waiting import wait_until

from her2d.cluster import connection as connection_module
from her2d.cluster.connection import ClusterConnection
from her2d.cluster.errors import ClusterUnavailableError, SameFileUnsureError
from her2d.cluster.plan import (
    ClusterStatus,
    Failure,
    NodeResult,
    NodeStatus,
    Part,
    Progress,
    SlideTask,
)
from her2d.cluster.processor import (
    ClusterProcessor,
    check_order,
    expected_software,
    open_cluster_processor,
)
from her2d.daemon.reload import merged
from her2d.inference.engine import EngineError
from her2d.method import MethodName
from her2d.pipeline.slide_run import SlideCancelledError
from her2d.processing.engine_health import EngineDownError
from her2d.processing.errors import (
    ActorCrashedError,
    ClusterLostError,
    DuplicateScanError,
    FileChangedError,
    ResultLostError,
    ScanNotOnNodeError,
    UnreadableHereError,
    UnreadableOnNodeError,
)
from her2d.processing.hashing import IdleHashing
from her2d.processing.identity import open_scan
from her2d.settings import ClusterSettings, InferenceSettings, IntakeSettings, Settings
from her2d.system.backoff import Backoff
from her2d.system.file_identity import content_hash

MIB = 1 << 20
NODE = NodeStatus("1", "alpha", "usable", 1)


class PlayedDriver:
    """Stands for the driver process: answers what the test has laid out.

    Attributes:
        opens: errors of the next attempts to connect; None connects.
        answers: what `next` answers in order; an exception is raised, a function is called.
    """

    def __init__(self) -> None:
        self.opens: list[Exception | None] = []
        self.status_now = ClusterStatus((NODE,), 2, 0.0)
        self.has_place = True
        self.answers: list[Any] = []
        self.calls: Counter[str] = Counter()
        self.tasks: list[SlideTask] = []
        self.is_dead = False
        self.backlog = 0
        self.parts: list[Part] = []
        self.most_parts = 10**9
        self.busy_sends = 0
        self.runs = threading.Event()
        self.runs.set()

    def start(self, _order: object) -> tuple[Any, "PlayedDriver"]:
        self.calls["start"] += 1
        self.is_dead = False
        return SimpleNamespace(shutdown=lambda: None, kill=self.kill), self

    def kill(self) -> None:
        """End as a killed process does: calls that it holds raise."""
        self.calls["kill"] += 1
        self.is_dead = True
        self.runs.set()

    def open(self) -> None:
        error = self.opens.pop(0) if self.opens else None
        if error is not None:
            raise error

    def note_backlog(self, slides: int) -> None:
        self.backlog = slides

    def status(self) -> ClusterStatus:
        self.runs.wait(60)
        if self.is_dead:
            raise EOFError
        return self.status_now

    def begin(self, task: SlideTask) -> bool:
        self.tasks.append(task)
        return self.has_place

    def next(self, _task_id: str, _wait_s: float) -> Any:
        answer = self.answers.pop(0) if self.answers else Progress()
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer()
            return None
        return answer

    def send(self, task_id: str, part: Part) -> bool | None:
        assert task_id == self.tasks[-1].id
        if self.busy_sends:
            self.busy_sends -= 1
            return None
        self.parts.append(part)
        return len(self.parts) < self.most_parts

    def give_up(self, _task_id: str, _silent_s: float) -> ActorCrashedError:
        self.calls["give_up"] += 1
        return ActorCrashedError("The node alpha made no progress.", "alpha", 3)

    def cancel(self, _task_id: str) -> None:
        self.calls["cancel"] += 1


@pytest.fixture
def played(monkeypatch) -> PlayedDriver:
    played = PlayedDriver()
    monkeypatch.setattr(connection_module, "_LOOK_S", 0.01)
    monkeypatch.setattr(connection_module, "_BACKOFF", Backoff(0.01, 0.01))
    monkeypatch.setattr("her2d.cluster.processor._POLL_S", 0.01)
    return played


@pytest.fixture
def connection(played) -> Iterator[ClusterConnection]:
    order: Any = SimpleNamespace(address="auto")
    with ClusterConnection(order, played.start) as connection:
        yield connection


@pytest.fixture
def processor(connection) -> Iterator[ClusterProcessor]:
    bundle: Any = SimpleNamespace(digest="d")
    software: Any = SimpleNamespace(backend="onnxruntime")
    with IdleHashing(1) as hashing:
        yield ClusterProcessor(
            bundle,
            software,
            connection,
            hashing,
            most_slides=8,
            paths={Path("/tmp"): Path("/data")},
            assume_magnification=lambda path, inbox: 40.0,
        )


@pytest.fixture
def score(processor, write_slide) -> Callable[..., Any]:
    path = write_slide(["S"])

    def score(**options: Any) -> Any:
        wait_until(lambda: processor.connection.is_connected)
        with open_scan(path) as scan:
            return processor.score(scan, content_hash=content_hash(path), **options)

    return score


def test_no_slide_is_taken_before_a_node_has_a_place(processor, played):
    played.status_now = ClusterStatus(wanted=1)
    wait_until(lambda: "no node" in str(processor.connection.problem))
    assert processor.capacity == 0
    played.status_now = ClusterStatus((NODE,), 2)
    wait_until(lambda: processor.capacity == 2)
    assert processor.connection.problem is None


def test_a_driver_process_that_is_frozen_is_a_problem_until_it_goes_on(
    processor, played, monkeypatch
):
    connection = processor.connection
    wait_until(lambda: connection.is_connected and connection.problem is None)
    monkeypatch.setattr(connection_module, "_SILENT_S", 0.5)
    played.runs.clear()
    wait_until(lambda: connection.problem is not None)
    assert connection.problem.startswith("The process that speaks with Ray has not answered for ")
    played.runs.set()
    wait_until(lambda: connection.problem is None)


def test_a_driver_process_that_stays_frozen_is_ended_and_another_one_started(
    processor, played, monkeypatch
):
    connection = processor.connection
    wait_until(lambda: connection.is_connected)
    monkeypatch.setattr(connection_module, "_FROZEN_S", 0.5)
    played.runs.clear()

    def is_ended() -> bool:
        processor.note_backlog(1)  # as in each pass of the daemon
        return played.calls["kill"] > 0

    wait_until(is_ended)
    wait_until(lambda: played.calls["start"] == 2 and connection.is_connected)
    assert connection.losses == 1


def test_a_stop_does_not_wait_for_a_driver_process_that_is_frozen(played, monkeypatch):
    monkeypatch.setattr(connection_module, "_SILENT_AT_STOP_S", 0.5)
    with ClusterConnection(SimpleNamespace(address="auto"), played.start) as connection:  # type: ignore[arg-type]
        wait_until(lambda: connection.is_connected)
        played.runs.clear()
        time.sleep(1)
    assert played.calls["kill"] == 1


def test_no_more_slides_are_taken_than_the_settings_allow(processor, played):
    played.status_now = ClusterStatus((NODE,), 100)
    wait_until(lambda: processor.capacity == 8)


def test_a_node_gets_the_path_that_the_file_has_there_and_what_to_check(score, played, tmp_path):
    played.answers = [Failure(ClusterLostError("gone"))]
    with pytest.raises(ClusterLostError):
        score()
    (task,) = played.tasks
    assert task.path == Path("/data") / (tmp_path / "slide.tif").relative_to("/tmp")
    assert task.content_hash == content_hash(tmp_path / "slide.tif")
    assert task.assume_magnification == 40.0


def test_a_node_gets_the_folder_that_a_part_of_an_inbox_is_mapped_to_as_the_inbox(
    processor, played, write_slide
):
    played.answers = [Failure(ClusterLostError("gone"))]
    path = write_slide(["S"])
    wait_until(lambda: processor.connection.is_connected)
    with open_scan(path, Path("/")) as scan, pytest.raises(ClusterLostError):
        processor.hash_and_score(scan, lambda _: None)
    (task,) = played.tasks
    assert (task.path, task.inbox) == (Path("/data") / path.relative_to("/tmp"), Path("/data"))


@pytest.fixture
def large(write_slide) -> Path:
    """A slide of more than six MiB."""
    path = write_slide(["S"], "large.tif")
    with path.open("ab") as file:
        file.write(bytes(6 * MIB))
    return path


@pytest.fixture
def read_bytes(monkeypatch) -> Counter[str]:
    """Counts the bytes of each file that this process reads to recognise, hash or send it."""
    found: Counter[str] = Counter()
    pread = os.pread

    def counted(descriptor: int, *arguments: Any) -> bytes:
        data = pread(descriptor, *arguments)
        found[Path(f"/proc/self/fd/{descriptor}").readlink().name] += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    return found


def hash_and_score(
    processor: ClusterProcessor, path: Path, hashed: Callable[[str], None] = lambda _: None
) -> Any:
    wait_until(lambda: processor.connection.is_connected)
    with open_scan(path) as scan:
        return processor.hash_and_score(scan, hashed)


OUTCOME: Any = SimpleNamespace()


def test_a_slide_is_read_by_its_node_and_only_its_first_block_by_the_daemon(
    processor, played, large, read_bytes
):
    played.answers = [NodeResult("blake2b:7", OUTCOME)]
    reported: list[str] = []
    digest, scored = hash_and_score(processor, large, reported.append)
    assert MIB <= read_bytes["large.tif"] < 2 * MIB
    assert [digest] == reported == ["blake2b:7"]
    assert scored.outcome is OUTCOME
    (task,) = played.tasks
    assert task.content_hash is None
    assert (task.size, task.mtime_ns) == (large.stat().st_size, large.stat().st_mtime_ns)
    with open_scan(large) as scan:
        assert task.first_block == scored.first_block == scan.first_block()


def test_a_slide_that_is_sent_is_read_once_for_that_and_for_its_hash(
    processor, played, large, read_bytes
):
    whole = content_hash(large)
    read_bytes.clear()
    played.answers = [Progress(wants_file=True), NodeResult(whole, OUTCOME)]
    reported: list[str] = []
    digest, _ = hash_and_score(processor, large, reported.append)
    size = large.stat().st_size
    assert size + MIB <= read_bytes["large.tif"] < size + 2 * MIB
    assert [digest] == reported == [whole]


def test_a_file_that_may_be_another_one_on_the_node_is_hashed_here_before_it_is_scored(
    processor, played, large
):
    whole = content_hash(large)
    played.answers = [Failure(SameFileUnsureError("a copy")), NodeResult(whole, OUTCOME)]
    reported: list[str] = []
    digest, _ = hash_and_score(processor, large, reported.append)
    assert [digest] == reported == [whole]
    assert [task.content_hash for task in played.tasks] == [None, whole]
    assert sum(processor.losses.values()) == 0


def test_a_hash_that_a_node_reports_beside_its_tiles_is_reported_at_once_and_once(
    processor, played, large
):
    done: list[str] = []
    played.answers = [
        Progress(1, 9, content_hash="blake2b:7"),
        lambda: done.append("next"),
        Progress(2, 9, content_hash="blake2b:7"),
        NodeResult("blake2b:7", OUTCOME),
    ]
    hash_and_score(processor, large, done.append)
    assert done == ["blake2b:7", "next"]


def test_a_slide_that_turns_out_to_be_a_duplicate_is_cancelled_on_its_node(
    processor, played, large
):
    def is_known(digest: str) -> None:
        raise DuplicateScanError(7, digest)

    played.answers = [Progress(1, 9, content_hash="blake2b:7")]
    with pytest.raises(DuplicateScanError):
        hash_and_score(processor, large, is_known)
    assert played.calls["cancel"] == 1


def test_a_file_that_changes_while_its_node_scores_it_has_no_score(processor, played, large):
    played.answers = [lambda: rewrite_in_place(large), NodeResult("blake2b:7", OUTCOME)]
    with pytest.raises(FileChangedError):
        hash_and_score(processor, large)


def test_a_node_that_finds_other_content_because_the_file_changed_is_right(
    processor, played, large
):
    played.answers = [
        lambda: rewrite_in_place(large),
        Failure(ScanNotOnNodeError("It has other content.")),
    ]
    with pytest.raises(FileChangedError):
        hash_and_score(processor, large)
    assert sum(processor.losses.values()) == 0


def test_a_node_that_cannot_read_what_this_machine_has_read_is_the_cause(
    score, processor, played, large
):
    answer = Failure(UnreadableOnNodeError("a.tif", "alpha", "I/O error"))
    played.answers = [answer]
    with pytest.raises(UnreadableOnNodeError) as caught:
        score()
    assert caught.value.is_readable_here
    played.answers = [answer]
    with pytest.raises(UnreadableOnNodeError) as caught:
        hash_and_score(processor, large)
    assert not caught.value.is_readable_here
    assert processor.losses["file"] == 2


@pytest.mark.parametrize("answer", [Progress(wants_file=True), Failure(SameFileUnsureError("?"))])
def test_this_machine_is_a_second_reader_wherever_it_reads_what_a_node_could_not(
    processor, played, large, monkeypatch, answer
):
    pread = os.pread

    def lost_sector(descriptor: int, size: int, at: int) -> bytes:
        if at + size > MIB:
            raise OSError(5, "Input/output error")
        return pread(descriptor, size, at)

    wait_until(lambda: processor.connection.is_connected)
    monkeypatch.setattr(os, "pread", lost_sector)
    for unreadable_on, raised in ((("alpha",), UnreadableHereError), ((), OSError)):
        played.answers = [answer]
        with open_scan(large) as scan, pytest.raises(raised, match="Input/output error"):
            processor.hash_and_score(scan, lambda _: None, unreadable_on=unreadable_on)
    assert [task.unreadable_on for task in played.tasks] == [frozenset({"alpha"}), frozenset()]


def test_nodes_that_score_are_known_by_name(processor, played):
    played.status_now = ClusterStatus(
        (
            NODE,
            NodeStatus("2", "beta", "idle"),
        ),
        2,
    )
    wait_until(lambda: len(processor.connection.status.nodes) == 2)
    assert processor.nodes == {"alpha"}


def test_a_result_of_other_content_than_the_daemon_has_read_is_not_taken(score, processor, played):
    played.answers = [NodeResult("blake2b:7", OUTCOME)]
    with pytest.raises(ScanNotOnNodeError, match="has scored other content"):
        score()
    assert processor.losses["file"] == 1


def test_progress_on_a_node_is_progress_of_the_slide(score, played):
    found: list[tuple[int, int]] = []
    played.answers = [Progress(1, 9), Progress(1, 9), None, Progress(2, 9),
                      Failure(ClusterLostError("gone"))]  # fmt: skip
    with pytest.raises(ClusterLostError):
        score(progress=lambda *done: found.append(done))
    assert found == [(1, 9), (2, 9)]


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (ClusterLostError("gone"), "node"),
        (ActorCrashedError("ended"), "process"),
        (EngineDownError("On alpha: no memory"), "engine"),
        (ResultLostError("full"), "result"),
        (ScanNotOnNodeError("elsewhere"), "file"),
    ],
)
def test_an_attempt_that_a_node_ended_is_counted_by_what_was_lost(
    score, processor, played, error, lost
):
    played.answers = [Failure(error)]
    with pytest.raises(type(error)):
        score()
    none = dict.fromkeys(("node", "process", "engine", "result", "file"), 0)
    assert processor.reading().losses == none | {lost: 1}


def test_an_error_of_the_slide_arrives_with_its_cause_and_counts_as_no_loss(
    score, processor, played
):
    played.answers = [Failure(EngineError("broken"), OSError(5, "I/O error"))]
    with pytest.raises(EngineError) as caught:
        score()
    assert isinstance(caught.value.__cause__, OSError)
    assert sum(processor.losses.values()) == 0


def test_a_node_where_a_slide_hangs_is_given_up_before_the_daemon_counts_as_hanging(
    score, processor, played
):
    """Its storage may not answer; the daemon would be restarted, and all slides with it."""
    processor._stalled_after_s = lambda: 0.3
    played.answers = [Progress(1, 9), None]
    with pytest.raises(ActorCrashedError, match="The node alpha made no progress"):
        score()
    played.busy_sends = 10**9
    played.answers = [Progress(wants_file=True)]
    with pytest.raises(ActorCrashedError, match="The node alpha made no progress"):
        score()
    assert (played.calls["give_up"], processor.losses["process"]) == (2, 2)


def test_a_reload_that_shortens_the_time_of_a_stalled_slide_holds_for_nodes_at_once(
    played, monkeypatch, color_bundle, write_slide
):
    """Else the daemon that is to outlive the node would be restarted first."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'her2d[cluster]'")
    monkeypatch.setattr(connection_module, "_start_driver", played.start)
    settings = Settings(
        cluster=ClusterSettings(address="auto"),
        inference=InferenceSettings(backend="onnxruntime", threads=1),
        intake=IntakeSettings(stalled_after_s=1e6),
    )
    wanted = settings.model_copy(update={"intake": IntakeSettings(stalled_after_s=0.3)})

    def reload() -> None:
        nonlocal settings
        settings = merged(settings, wanted).settings

    played.answers = [Progress(1, 9), reload]
    cancel = threading.Event()
    late = threading.Timer(30, cancel.set)
    late.start()
    path = write_slide(["S"])
    with (
        open_cluster_processor(color_bundle, lambda: settings) as processor,
        open_scan(path) as scan,
    ):
        wait_until(lambda: processor.connection.is_connected)
        with pytest.raises(ActorCrashedError, match="The node alpha made no progress"):
            processor.score(scan, content_hash=content_hash(path), cancel=cancel)
    late.cancel()


def test_a_node_does_not_hang_while_its_hash_waits_for_the_database(processor, played, large):
    processor._stalled_after_s = lambda: 0.3
    played.answers = [
        Progress(1, 9, content_hash="blake2b:7"),
        None,
        NodeResult("blake2b:7", OUTCOME),
    ]
    hash_and_score(processor, large, lambda _: time.sleep(0.5))
    assert played.calls["give_up"] == 0


def test_a_slide_is_cancelled_on_its_node(score, played):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(SlideCancelledError):
        score(cancel=cancel)
    assert played.calls["cancel"] == 1


def test_a_slide_that_waits_for_a_place_can_be_cancelled(score, played):
    played.has_place = False
    cancel = threading.Event()
    waiting: list[object] = []

    def note(*_: object) -> None:
        waiting.append(1)
        cancel.set()

    with pytest.raises(SlideCancelledError):
        score(cancel=cancel, progress=note)
    assert waiting


def test_a_driver_process_that_ends_is_replaced_and_its_slides_are_lost_to_the_cluster(
    score, processor, played
):
    def end(*_: object) -> None:
        played.is_dead = True

    played.answers = [Progress(1, 9), EOFError()]
    with capture_logs() as events:
        with pytest.raises(ClusterLostError):
            score(progress=end)
        wait_until(lambda: played.calls["start"] == 2 and processor.connection.is_connected)
    assert processor.connection.losses == 1
    assert [e["level"] for e in events if e["event"] == "cluster_lost"] == ["error"]


def test_a_cluster_that_does_not_answer_is_tried_again_and_logged_once(played):
    played.opens = [ClusterUnavailableError("nobody there")] * 3 + [None]
    order: Any = SimpleNamespace(address="auto")
    with capture_logs() as events, ClusterConnection(order, played.start) as connection:
        wait_until(lambda: connection.is_connected)
    names = Counter(event["event"] for event in events)
    assert (names["cluster_unavailable"], names["cluster_connected"]) == (1, 1)
    assert played.calls["start"] == 4


def test_a_driver_that_hears_nothing_of_the_cluster_is_replaced(connection, played):
    wait_until(lambda: connection.is_connected)
    played.status_now = replace(played.status_now, age_s=31.0)
    wait_until(lambda: connection.losses >= 1)
    assert "has not answered for 31 s" in str(connection.problem)


def test_a_stop_replaces_a_silent_driver_early_so_that_its_slides_end(played):
    cancel = threading.Event()
    order: Any = SimpleNamespace(address="ray://head.example:10001")
    with ClusterConnection(order, played.start, cancel) as connection:
        played.status_now = replace(played.status_now, age_s=10.0)
        wait_until(lambda: connection.is_connected)
        assert connection.losses == 0
        cancel.set()
        wait_until(lambda: connection.losses >= 1)
    assert "not answered for 10 s" in str(connection.problem)


def test_nodes_that_come_go_or_are_refused_are_logged(connection, played):
    wait_until(lambda: connection.is_connected)
    refused = NodeStatus("2", "beta", "refused", 0, "It has another version of her2d.")
    with capture_logs() as events:
        played.status_now = ClusterStatus((refused,), 0, wanted=1)
        wait_until(lambda: connection.status.nodes == (refused,))
    named = {event["event"]: event["node"] for event in events if "node" in event}
    assert named == {"cluster_node_refused": "beta", "cluster_node_lost": "alpha"}
    wait_until(lambda: connection.problem is not None)
    assert "another version of her2d" in str(connection.problem)


def test_settings_that_leave_open_what_computes_are_refused():
    with pytest.raises(EngineError, match=r"needs \[inference\] backend"):
        expected_software(Settings())
    with pytest.raises(EngineError, match=r"needs \[inference\] precision with openvino"):
        expected_software(Settings(inference=InferenceSettings(backend="openvino")))


def test_a_bundle_that_is_scored_on_one_machine_only_is_refused_at_the_start():
    bundle: Any = SimpleNamespace(
        directory=Path("/b"), manifest=SimpleNamespace(method=MethodName.MIL)
    )
    with pytest.raises(EngineError, match=r"/b calls slides by attention.*Remove \[cluster\]"):
        check_order(bundle, Settings(cluster=ClusterSettings(address="auto")))


def test_a_node_that_asks_for_a_file_gets_it_once_in_small_parts(
    processor, score, played, tmp_path, monkeypatch
):
    monkeypatch.setattr("her2d.cluster.processor._PART_BYTES", 1000)
    content = (tmp_path / "slide.tif").read_bytes()
    played.answers = [
        Progress(waited=1),
        Progress(waited=2, wants_file=True),
        Progress(waited=3, wants_file=True),
        Failure(ClusterLostError("gone")),
    ]
    beats: list[tuple[int, int]] = []
    with pytest.raises(ClusterLostError):
        score(progress=lambda *done: beats.append(done))
    assert b"".join(part.data for part in played.parts) == content
    assert [part.offset for part in played.parts] == list(range(0, len(content), 1000))
    assert len(beats) >= len(played.parts)
    assert played.tasks[0].size == len(content)
    assert [part.content_hash for part in played.parts[:-1]] == [None] * (len(played.parts) - 1)
    assert played.parts[-1].content_hash == content_hash(tmp_path / "slide.tif")
    assert processor.reading().sent_bytes == len(content)


def test_the_sending_ends_when_the_slide_has_ended(score, played, monkeypatch):
    monkeypatch.setattr("her2d.cluster.processor._PART_BYTES", 1000)
    played.most_parts = 3
    played.answers = [Progress(wants_file=True), Failure(ScanNotOnNodeError("no room"))]
    with pytest.raises(ScanNotOnNodeError):
        score()
    assert len(played.parts) == 3


def test_a_part_that_a_node_has_no_room_for_yet_is_sent_later(score, played, tmp_path, monkeypatch):
    monkeypatch.setattr("her2d.cluster.processor._PART_BYTES", 1000)
    played.busy_sends = 3
    played.answers = [Progress(wants_file=True), Failure(ClusterLostError("gone"))]
    with pytest.raises(ClusterLostError):
        score()
    sent = b"".join(part.data for part in played.parts)
    assert sent == (tmp_path / "slide.tif").read_bytes()


def test_a_slide_is_cancelled_while_a_node_takes_no_part(score, played):
    cancel = threading.Event()
    send = played.send

    def never(*part: Any) -> bool | None:
        played.busy_sends = 1
        cancel.set()
        return send(*part)

    played.send = never
    played.answers = [Progress(wants_file=True)]
    with pytest.raises(SlideCancelledError):
        score(cancel=cancel)
    assert played.parts == []


def test_a_cancelled_slide_is_sent_no_further(score, played, monkeypatch):
    monkeypatch.setattr("her2d.cluster.processor._PART_BYTES", 1000)
    cancel = threading.Event()
    played.answers = [Progress(wants_file=True)]

    def stop(*_: object) -> None:
        if played.parts:
            cancel.set()

    with pytest.raises(SlideCancelledError):
        score(cancel=cancel, progress=stop)
    assert len(played.parts) == 1
    assert played.calls["cancel"] == 1


def test_a_file_that_was_cut_while_it_is_sent_settles_again(score, played, tmp_path, monkeypatch):
    monkeypatch.setattr("her2d.cluster.processor._PART_BYTES", 1000)
    played.answers = [Progress(wants_file=True)]

    def cut(*_: object) -> None:
        (tmp_path / "slide.tif").write_bytes(b"short")

    with pytest.raises(FileChangedError):
        score(progress=cut)
    assert played.calls["cancel"] == 1


def test_no_file_is_offered_where_nodes_have_no_room_for_any(connection, played, write_slide):
    bundle: Any = SimpleNamespace(digest="d")
    with IdleHashing(1) as hashing, open_scan(write_slide(["S"])) as scan:
        processor = ClusterProcessor(
            bundle,
            bundle,
            connection,
            hashing,
            most_slides=8,
            paths={},
            assume_magnification=lambda path, inbox: None,
            sends_files=False,
        )
        wait_until(lambda: connection.is_connected)
        played.answers = [Failure(ClusterLostError("gone"))]
        with pytest.raises(ClusterLostError):
            processor.score(scan, content_hash="blake2b:1")
    assert not played.tasks[0].can_be_sent
