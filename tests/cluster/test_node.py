"""What runs on a node, without Ray: which nodes are refused, and what comes back of a slide."""

import errno
import logging
import os
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from touched_files import rewrite_in_place
from waiting import wait_until

from her2d.cluster.errors import SameFileUnsureError
from her2d.cluster.node import SlideActor
from her2d.cluster.node_parity import parity_reference
from her2d.cluster.plan import (
    Failure,
    NodePlan,
    NodeResult,
    ParityReference,
    Part,
    Progress,
    SlideTask,
)
from her2d.cluster.processor import expected_software
from her2d.pipeline.slide_run import SlideCancelledError
from her2d.pipeline.software import library_versions
from her2d.processing.errors import (
    FileChangedError,
    ScanNotOnNodeError,
    UnreadableOnNodeError,
)
from her2d.processing.identity import open_scan, scan_hash
from her2d.processing.processor import open_processor
from her2d.settings import InferenceSettings, PipelineSettings, Settings
from her2d.slides.errors import SlideError, SlideUnavailableError


@pytest.fixture(scope="module", autouse=True)
def log_as_before() -> Iterator[None]:
    """Let her2d's log be seen again by the tests that share this process."""
    yield
    logging.getLogger("her2d").propagate = True


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings(inference=InferenceSettings(backend="onnxruntime", threads=1))


@pytest.fixture(scope="module")
def reference(color_bundle) -> ParityReference:
    return parity_reference(color_bundle)


@pytest.fixture(scope="module")
def plan(color_bundle, settings) -> NodePlan:
    return NodePlan(
        color_bundle.directory,
        None,
        color_bundle.digest,
        None,
        expected_software(settings),
        library_versions(),
        settings.inference,
        PipelineSettings(),
        cpus=1,
        gpus=0,
    )


@pytest.fixture(scope="module")
def actor(plan, reference) -> SlideActor:
    return SlideActor(plan, reference)


@pytest.fixture
def task(write_slide) -> SlideTask:
    return task_of(write_slide(["Sw.", "tSS"]))


def task_of(path: Path) -> SlideTask:
    with open_scan(path) as scan:
        state, first_block = scan.state, scan.first_block()
    return SlideTask("1", path, None, state.size, state.mtime_ns, first_block, None)


def assert_same(found: object, expected: object) -> None:
    """Check that both are the same result, bit by bit."""
    assert isinstance(found, NodeResult)
    assert isinstance(expected, NodeResult)
    assert found.content_hash == expected.content_hash
    a, b = found.outcome, expected.outcome
    assert (a.score, a.quality, a.grid) == (b.score, b.quality, b.grid)
    for array in ("tile_class", "tumor_pixels", "p_folds", "p_strong"):
        assert np.array_equal(getattr(a, array), getattr(b, array), equal_nan=True), array
    assert np.array_equal(a.overview.rgb, b.overview.rgb)


def failure_of(actor: SlideActor, task: SlideTask) -> Exception:
    """Score a slide that cannot be scored, and return the error as another process gets it."""
    answer = pickle.loads(pickle.dumps(actor.score(task)))  # noqa: S301
    assert isinstance(answer, Failure)
    return answer.to_raise()


def test_a_slide_has_the_same_outcome_on_a_node_as_on_this_machine(
    actor, task, color_bundle, settings
):
    answer = pickle.loads(pickle.dumps(actor.score(task)))  # noqa: S301
    with open_processor(color_bundle, settings) as processor, open_scan(task.path) as scan:
        digest, scored = processor.hash_and_score(scan, lambda _: None)
    assert_same(answer, NodeResult(digest, scored.outcome))


def test_tiles_that_end_after_their_slide_has_ended_disturb_no_other_slide(
    actor, task, monkeypatch
):
    """The pipeline's stages call it for whole batches, which hold tiles of several slides."""
    assert actor._processor is not None
    score, late = actor._processor.hash_and_score_assuming, []

    def scored(*arguments, progress, **options):
        late.append(progress)
        return score(*arguments, progress=progress, **options)

    monkeypatch.setattr(actor._processor, "hash_and_score_assuming", scored)
    assert isinstance(actor.score(task), NodeResult)
    late[0](3, 4)


def test_an_answer_is_at_most_as_large_as_a_heatmap(actor, task):
    assert len(pickle.dumps(actor.score(task))) < 9 * 2**20


def test_a_node_like_the_daemon_is_used(actor):
    assert actor.report().refusal is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda p: {"bundle_digest": "0" * 64}, "another version of the bundle"),
        (lambda p: {"calibration_digest": "1" * 64}, "another version of the calibration"),
        (
            lambda p: {"software": replace(p.software, software_version="0.0.1")},
            "another version of her2d",
        ),
        (
            lambda p: {"software": replace(p.software, runtime_version="1.0")},
            "another version of onnxruntime",
        ),
        (
            lambda p: {"software": replace(p.software, scikit_learn_version="1.0")},
            "another version of scikit-learn",
        ),
        (
            lambda p: {"software": replace(p.software, git_commit="abc")},
            "another version of her2d's commit",
        ),
        (
            lambda p: {"libraries": {**p.libraries, "imagecodecs": "1.0"}},
            "another version of imagecodecs: " + version("imagecodecs"),
        ),
        (
            lambda p: {"libraries": {**p.libraries, "a-library-of-the-daemon": "1.0"}},
            "another version of a-library-of-the-daemon: none, and the daemon has 1.0",
        ),
        (
            lambda p: {"bundle": p.bundle / "nowhere"},
            "There is no readable model bundle in",
        ),
    ],
)
def test_a_node_that_differs_is_refused_with_one_sentence(
    plan, reference, change: Callable[[NodePlan], dict[str, object]], sentence
):
    refused = SlideActor(replace(plan, **change(plan)), reference)
    assert sentence in str(refused.report().refusal)


def test_a_node_whose_engine_finds_something_else_is_refused(plan, reference):
    wrong = replace(reference.findings, p_folds=1 - reference.findings.p_folds)
    refused = SlideActor(plan, replace(reference, findings=wrong))
    assert "fails the parity check" in str(refused.report().refusal)


def test_a_refused_node_scores_nothing(plan, reference, task):
    refused = SlideActor(replace(plan, bundle_digest="0" * 64), reference)
    assert "another version of the bundle" in str(failure_of(refused, task))


def test_a_file_with_other_content_on_the_node_is_not_scored(actor, task):
    error = failure_of(actor, replace(task, content_hash="blake2b:" + "0" * 64))
    assert isinstance(error, ScanNotOnNodeError)
    assert "has other content" in str(error)


def test_another_file_is_known_by_its_size_or_its_first_block_and_is_not_read(
    actor, task, monkeypatch
):
    monkeypatch.setattr(actor, "_processor", SimpleNamespace())
    for other in (replace(task, size=task.size + 1), replace(task, first_block="blake2b:0")):
        error = failure_of(actor, other)
        assert isinstance(error, ScanNotOnNodeError)
        assert "has other content" in str(error)


def test_a_file_of_another_time_is_scored_once_the_daemon_has_hashed_its_own(actor, task):
    """It may be a copy, or another scan of one size that begins with the same glass."""
    os.utime(task.path, ns=(0, task.mtime_ns + 3 * 10**9))
    digest = scan_hash(task.path)
    assert isinstance(failure_of(actor, task), SameFileUnsureError)
    answer = actor.score(replace(task, content_hash=digest))
    assert isinstance(answer, NodeResult)
    assert answer.content_hash == digest


def test_a_time_that_a_mount_rounds_is_the_same(actor, task):
    os.utime(task.path, ns=(0, task.mtime_ns // 10**9 * 10**9))
    assert isinstance(actor.score(task), NodeResult)


def test_a_file_is_hashed_while_its_tiles_are_scored_and_its_hash_is_known_before_the_end(
    actor, task, monkeypatch
):
    seen: list[Progress] = []
    score = actor._processor.hash_and_score_assuming

    def watched(scan, magnification, hashed, **options):
        def note(digest: str) -> None:
            hashed(digest)
            seen.append(actor.progress(task.id))

        return score(scan, magnification, note, **options)

    monkeypatch.setattr(actor._processor, "hash_and_score_assuming", watched)
    answer = actor.score(task)
    assert isinstance(answer, NodeResult)
    assert [progress.content_hash for progress in seen] == [answer.content_hash]
    assert seen[0].hashed_mb > 0


def test_a_file_that_changes_while_a_node_scores_it_has_no_result(actor, task, monkeypatch):
    score = actor._processor.hash_and_score_assuming

    def changed(scan, magnification, hashed, **options):
        def change(digest: str) -> None:
            hashed(digest)
            rewrite_in_place(task.path)

        return score(scan, magnification, change, **options)

    monkeypatch.setattr(actor._processor, "hash_and_score_assuming", changed)
    assert isinstance(failure_of(actor, task), FileChangedError)


def test_a_file_that_the_node_lacks_is_the_nodes_problem(actor, task, tmp_path):
    error = failure_of(actor, replace(task, path=tmp_path / "nowhere" / "slide.tif"))
    assert isinstance(error, ScanNotOnNodeError)
    assert "Mount the share there, or correct [cluster] paths." in str(error)


@pytest.fixture
def fails_to_read(monkeypatch) -> Callable[[Path, int, int], None]:
    """Lets the reading of a file from some byte on fail with an error number."""
    pread = os.pread

    def fails_to_read(path: Path, number: int, first: int) -> None:
        def read(descriptor: int, size: int, at: int) -> bytes:
            name = Path(f"/proc/self/fd/{descriptor}").readlink()
            if at + size > first and str(name).startswith(str(path)):
                raise OSError(number, os.strerror(number))
            return pread(descriptor, size, at)

        monkeypatch.setattr(os, "pread", read)

    return fails_to_read


@pytest.mark.parametrize("first", [0, 1 << 20])
def test_a_lost_sector_is_reported_with_the_node_that_could_not_read_it(
    actor, task, fails_to_read, first
):
    with task.path.open("ab") as file:
        file.write(bytes(2 << 20))
    whole = replace(task_of(task.path), inbox=task.path.parent)
    fails_to_read(task.path, errno.EIO, first + 1)
    error = failure_of(actor, whole)
    assert isinstance(error, UnreadableOnNodeError)
    assert (error.file_name, error.node) == (task.path.name, socket.gethostname())
    assert str(error) == (
        f"The node {error.node} cannot read {task.path.name}: Input/output error."
    )


def test_a_share_that_a_node_does_not_reach_is_held_against_no_file(actor, task, fails_to_read):
    fails_to_read(task.path, errno.ESTALE, 0)
    error = failure_of(actor, replace(task, inbox=task.path.parent))
    assert isinstance(error, ScanNotOnNodeError)
    assert "does not reach" in str(error)


def test_a_file_is_scored_as_it_was_sent_where_the_node_could_open_it_as_well(
    receiving, task, fails_to_read
):
    content, digest = task.path.read_bytes(), scan_hash(task.path)
    fails_to_read(task.path, errno.EIO, 0)
    whole = replace(task, is_sent=True, can_be_sent=True, content_hash=digest)
    assert isinstance(sent(receiving, whole, [Part(0, content, digest)]), NodeResult)


def test_a_broken_disk_of_the_spool_is_held_against_no_file(
    receiving, lacking, task, tmp_path, fails_to_read
):
    missing, content = lacking
    digest = scan_hash(task.path)
    fails_to_read(tmp_path / "spool", errno.EIO, 0)
    answer = sent(receiving, missing, [Part(0, content, digest)])
    assert isinstance(answer, Failure)
    assert isinstance(answer.error, ScanNotOnNodeError)
    assert "Check the disk of [cluster] spool there." in str(answer.error)


def test_a_file_that_is_no_slide_fails_as_it_does_without_a_cluster(actor, task, tmp_path):
    text = tmp_path / "text.tif"
    text.write_text("not a slide")
    error = failure_of(actor, task_of(text))
    assert isinstance(error, SlideError)
    assert not isinstance(error, SlideUnavailableError)


def test_what_the_storage_said_travels_with_the_error():
    error = SlideUnavailableError("a.tif", "cannot be read")
    arrived = pickle.loads(pickle.dumps(Failure(error, OSError(5, "I/O error"))))  # noqa: S301
    assert arrived.to_raise().__cause__.errno == 5


def test_an_error_that_cannot_be_sent_arrives_in_its_words(actor, task, monkeypatch):
    class LibraryError(Exception):
        pass  # of a class that no other process can import

    def fail(*_: object, **__: object) -> None:
        raise LibraryError("out of order")

    monkeypatch.setattr(actor._processor, "hash_and_score_assuming", fail)
    assert "LibraryError: out of order" in str(failure_of(actor, task))


def test_a_cancelled_slide_ends_early(actor, task, monkeypatch):
    begun = threading.Event()
    score = actor._processor.hash_and_score_assuming

    def slow(*arguments, cancel: threading.Event, **options):
        begun.set()
        assert cancel.wait(30)
        return score(*arguments, cancel=cancel, **options)

    monkeypatch.setattr(actor._processor, "hash_and_score_assuming", slow)
    errors: list[Exception] = []
    thread = threading.Thread(target=lambda: errors.append(failure_of(actor, task)))
    thread.start()
    assert begun.wait(30)
    actor.cancel(task.id)
    thread.join(30)
    assert isinstance(errors[0], SlideCancelledError)


def test_the_log_of_a_node_goes_nowhere_that_could_show_a_patients_name(actor, task, capfd):
    actor.score(replace(task, content_hash="blake2b:0"))
    captured = capfd.readouterr()
    assert task.path.name not in captured.out + captured.err


@pytest.fixture
def receiving(plan, reference, tmp_path) -> SlideActor:
    """An actor whose node takes 1 MB of files that it lacks."""
    (tmp_path / "spool").mkdir()
    return SlideActor(replace(plan, spool=tmp_path / "spool", spool_mb=1.0), reference)


def sent(actor: SlideActor, task: SlideTask, parts: list[Part]) -> object:
    """Score a slide that the node lacks, and send these parts of it once it asks for them."""
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(actor.score(task)))
    thread.start()
    wait_until(lambda: actor.progress(task.id).wants_file or not thread.is_alive())
    for part in parts:
        actor.receive(task.id, part)
    thread.join(60)
    return pickle.loads(pickle.dumps(answers[0]))  # noqa: S301


@pytest.fixture
def lacking(task, tmp_path) -> tuple[SlideTask, bytes]:
    """A slide that is at no path of the node, and its bytes."""
    content = task.path.read_bytes()
    path = tmp_path / "nowhere" / task.path.name
    return replace(task, path=path, can_be_sent=True), content


def test_a_slide_that_a_node_lacks_is_received_and_has_the_same_outcome(
    actor, receiving, task, lacking, tmp_path
):
    missing, content = lacking
    parts = [Part(at, content[at : at + 1000]) for at in range(0, len(content), 1000)]
    parts[-1] = replace(parts[-1], content_hash=scan_hash(task.path))
    assert_same(sent(receiving, missing, parts[::-1]), actor.score(task))
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("damage", [0, -1])
def test_a_file_that_was_damaged_on_its_way_gives_no_result(receiving, task, lacking, damage):
    missing, content = lacking
    damaged = bytearray(content)
    damaged[damage] ^= 1
    part = Part(0, bytes(damaged), scan_hash(task.path))
    answer = sent(receiving, missing, [part])
    assert isinstance(answer, Failure)
    assert isinstance(answer.error, ScanNotOnNodeError)
    assert "was damaged on its way" in str(answer.error)


def test_a_half_of_a_file_gives_no_result(receiving, lacking, monkeypatch):
    monkeypatch.setattr("her2d.cluster.node._SILENT_S", 0.2)
    monkeypatch.setattr("her2d.cluster.spool._LOOK_S", 0.1)
    missing, content = lacking
    answer = sent(receiving, missing, [Part(0, content[: len(content) // 2])])
    assert isinstance(answer, Failure)
    assert isinstance(answer.error, ScanNotOnNodeError)
    assert "No part of it has arrived" in str(answer.error)


def test_a_file_for_which_there_is_no_room_is_refused_before_a_byte_is_sent(receiving, lacking):
    missing, _ = lacking
    error = failure_of(receiving, replace(missing, size=3_000_000))
    assert isinstance(error, ScanNotOnNodeError)
    assert "it has 3 MB, and [cluster] spool_mb allows 1" in str(error)


def test_a_slide_that_is_cancelled_while_it_arrives_ends_and_frees_its_room(
    receiving, lacking, monkeypatch
):
    monkeypatch.setattr("her2d.cluster.spool._LOOK_S", 0.1)
    missing, _ = lacking
    whole = replace(missing, size=1_000_000)
    for _ in range(2):
        answers: list[object] = []
        thread = threading.Thread(
            target=lambda into: into.append(receiving.score(whole)), args=(answers,)
        )
        thread.start()
        wait_until(lambda: receiving.progress(whole.id).wants_file)
        receiving.cancel(whole.id)
        thread.join(30)
        assert isinstance(answers[0], Failure)
        assert isinstance(answers[0].error, SlideCancelledError)


def test_a_part_that_comes_too_late_is_dropped(receiving):
    receiving.receive("unknown", Part(0, b"x"))
