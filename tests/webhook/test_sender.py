"""The webhook, with a real receiver."""

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from functools import partial

import pytest
import waiting
from captured_logs import capture_logs
from hostile_receiver import OK, dripping, endless, hostile_receiver
from standardwebhooks import Webhook as Receiving
from webhook_receiver import PATIENCE_S, Receiver, receiving

import her2d.webhook.sender
from her2d.db.connection import open_database
from her2d.monitoring.log import configure_logging
from her2d.queue.operator import prioritise
from her2d.queue.store import JobQueue
from her2d.settings import SettingsError, WebhookSettings, load_settings
from her2d.system import clock
from her2d.system.backoff import Backoff
from her2d.system.file_identity import FileState
from her2d.webhook.outbox import Outbox
from her2d.webhook.sender import Webhook, WebhookSender, signature

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

wait_until = partial(waiting.wait_until, patience_s=PATIENCE_S)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def database(tmp_path):
    """A new database whose webhook has been set up, so that all later events are sent."""
    path = tmp_path / "her2d.sqlite"
    db = open_database(path)
    db.execute("insert into webhook_cursor values (1, 0, '')")
    db.conn.commit()
    db.close()
    return path


def quarantine(database, *names: str) -> None:
    db = open_database(database)
    for name in names:
        JobQueue(db).refuse(database.parent / name, FileState(1, 2, 3), f"{name} is not a slide.")
    db.close()


@contextmanager
def delivering(database, url: str, **settings: object) -> Iterator[None]:
    stop = threading.Event()
    webhook = Webhook(WebhookSettings(url=url, **settings), database, stop)
    thread = threading.Thread(target=webhook.run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@contextmanager
def outbox_of(database) -> Iterator[Outbox]:
    with closing(open_database(database)) as db:
        yield Outbox(db)


def change(database, statement: str) -> None:
    with closing(open_database(database)) as db:
        db.execute(statement)
        db.conn.commit()


def claimed(jobs: JobQueue, path):
    jobs.queue(jobs.discover(path, path.parent, FileState(1, 2, 3)))
    return jobs.claim()


def is_set_up(database) -> bool:
    with closing(open_database(database)) as db:
        return db.table("webhook_cursor").count > 0


def names(documents: list[dict]) -> list[str]:
    return [document["data"]["file_name"] for document in documents]


def logged(logs: list, event: str) -> bool:
    return any(line["event"] == event for line in logs)


def test_a_quarantine_is_sent_with_its_reason(database, receiver):
    quarantine(database, "bad.tif")
    with delivering(database, receiver.url):
        receiver.wait_for(1)
    (document,) = receiver.documents
    assert document["type"] == "slide.quarantined"
    assert document["data"]["reason"] == "bad.tif is not a slide."
    assert document["data"]["path"].endswith("bad.tif")


def test_the_library_for_receivers_accepts_the_signature(database, receiver):
    quarantine(database, "bad.tif")
    with delivering(database, receiver.url, secret=SECRET):
        receiver.wait_for(1)
    Receiving(SECRET).verify(receiver.bodies[0], receiver.headers[0])


def test_the_signature_matches_the_example_of_the_specification():
    # https://github.com/standard-webhooks/standard-webhooks gives this example.
    found = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_event_is_sent_until_it_is_accepted_and_keeps_its_id(database, receiver):
    receiver.answers = [503, 429]
    quarantine(database, "a.tif", "b.tif")
    with delivering(database, receiver.url):
        receiver.wait_for(4)
    ids = [headers["webhook-id"] for headers in receiver.headers]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert names(receiver.documents) == ["a.tif"] * 3 + ["b.tif"]


@pytest.mark.parametrize(
    "answer",
    [302, 404, 503]
    + [
        pytest.param(answer, marks=pytest.mark.slow)
        for answer in (301, 307, 400, 401, 403, 422, 500)
    ],
)
def test_after_a_redirect_or_an_error_an_event_is_sent_again_to_the_same_address(
    database, receiver, answer
):
    receiver.answers = [answer]
    quarantine(database, "a.tif")
    with delivering(database, receiver.url):
        receiver.wait_until_taken(1)
    assert [headers["path"] for headers in receiver.headers] == ["/hook", "/hook"]


def test_an_event_is_sent_again_if_the_receiver_does_not_respond_in_time(database, receiver):
    quarantine(database, "a.tif")
    with delivering(database, receiver.url.replace("hook", "slow"), timeout_s=0.2):
        receiver.wait_for(2)


def test_after_410_nothing_is_sent_until_the_next_start_and_no_event_is_lost(database, receiver):
    receiver.answers = [410]
    quarantine(database, "a.tif", "b.tif")
    with capture_logs() as logs, delivering(database, receiver.url):
        wait_until(lambda: logged(logs, "webhook_gone"))
    assert len(receiver.bodies) == 1
    with delivering(database, receiver.url):
        receiver.wait_until_taken(2)
    assert names(receiver.taken) == ["a.tif", "b.tif"]


@pytest.mark.slow
def test_an_event_that_is_never_accepted_does_not_delay_later_ones(database, receiver):
    receiver.answer_to = lambda document: (
        500 if document["data"]["file_name"] == "poison.tif" else 204
    )
    quarantine(database, "poison.tif", "a.tif", "b.tif")
    with delivering(database, receiver.url):
        receiver.wait_until_taken(2)
        tried = len(receiver.bodies)
        receiver.wait_for(tried + 1)
    assert names(receiver.taken) == ["a.tif", "b.tif"]
    assert receiver.documents[tried]["data"]["file_name"] == "poison.tif"


def test_a_new_event_does_not_wait_for_the_next_attempt_of_a_deferred_one(
    database, receiver, monkeypatch
):
    monkeypatch.setattr(her2d.webhook.sender, "_BACKOFF", Backoff(3600.0, 3600.0))
    receiver.answer_to = lambda document: (
        500 if document["data"]["file_name"] == "poison.tif" else 204
    )
    quarantine(database, "poison.tif")
    with outbox_of(database) as outbox:
        outbox.defer(outbox.next(), wait_s=-1)
    with delivering(database, receiver.url):
        receiver.wait_for(1)
        quarantine(database, "new.tif")
        receiver.wait_until_taken(1)
    assert names(receiver.taken) == ["new.tif"]


def test_a_deferred_event_is_sent_after_a_restart(database, receiver):
    quarantine(database, "poison.tif", "a.tif")
    with outbox_of(database) as outbox:
        outbox.defer(outbox.next(), wait_s=-1)
    with delivering(database, receiver.url):
        receiver.wait_until_taken(2)
    with outbox_of(database) as outbox:
        assert outbox.next() is None
    assert names(receiver.taken) == ["a.tif", "poison.tif"]


def test_new_events_are_sent_before_a_deferred_one_that_is_due(database):
    quarantine(database, "poison.tif", "a.tif", "b.tif")
    with outbox_of(database) as outbox:
        outbox.defer(outbox.next(), wait_s=-1)
        sent = []
        while event := outbox.next():
            sent.append(event.detail)
            outbox.done(event)
    assert sent == ["a.tif is not a slide.", "b.tif is not a slide.", "poison.tif is not a slide."]


def test_a_deferred_event_is_not_sent_before_it_is_due(database):
    quarantine(database, "poison.tif", "a.tif")
    with outbox_of(database) as outbox:
        outbox.defer(outbox.next(), wait_s=300)
        found = outbox.next()
        assert found.detail == "a.tif is not a slide."
        outbox.done(found)
        assert outbox.next() is None


def test_an_event_that_was_deferred_while_the_clock_was_ahead_is_sent_once_it_is_set_back(
    database,
):
    quarantine(database, "poison.tif")
    with outbox_of(database) as outbox:
        event = outbox.next()
        outbox.defer(event, wait_s=365 * 24 * 3600)
        assert outbox.next().id == event.id


def test_events_of_different_databases_have_different_ids(tmp_path):
    ids = set()
    for name in ("one", "two"):
        database = tmp_path / name / "her2d.sqlite"
        database.parent.mkdir()
        with outbox_of(database) as outbox:
            outbox.begin()
        quarantine(database, "a.tif")
        with outbox_of(database) as outbox:
            ids.add(outbox.next().webhook_id)
    assert len(ids) == 2


def test_no_event_is_lost_while_the_receiver_is_down_or_the_daemon_stopped(database, receiver):
    with delivering(database, "http://127.0.0.1:9/hook"):  # the discard port, which is closed
        quarantine(database, "a.tif")
        with outbox_of(database) as outbox:
            assert outbox.next() is not None
    quarantine(database, "b.tif")
    with delivering(database, receiver.url):
        receiver.wait_for(2)
    with delivering(database, receiver.url):
        quarantine(database, "c.tif")
        receiver.wait_for(3)
    assert names(receiver.documents) == ["a.tif", "b.tif", "c.tif"]


def test_an_event_is_sent_at_least_once_however_old_it_is(database, receiver):
    quarantine(database, "old.tif")
    change(database, "update events set at = '2020-01-01T00:00:00.000000Z'")
    with delivering(database, receiver.url, give_up_after_h=1.0):
        receiver.wait_until_taken(1)


def test_an_event_that_was_deferred_for_too_long_is_given_up(database, receiver):
    receiver.answer_to = lambda document: 500 if document["data"]["file_name"] == "old.tif" else 204
    quarantine(database, "old.tif", "new.tif")
    with outbox_of(database) as outbox:
        outbox.defer(outbox.next(), wait_s=-1)
    change(database, "update webhook_clock set ran_s = 3601")
    with capture_logs() as logs, delivering(database, receiver.url, give_up_after_h=1.0):
        wait_until(lambda: logged(logs, "webhook_given_up"))
    assert names(receiver.documents) == ["new.tif", "old.tif"]
    with outbox_of(database) as outbox:
        assert outbox.next() is None


@pytest.mark.slow
@pytest.mark.parametrize("days", [-10_000, 365, 10_000])
def test_no_change_of_the_systems_clock_gives_an_event_up(database, receiver, monkeypatch, days):
    receiver.answer_to = lambda _document: 500
    quarantine(database, "a.tif")
    with outbox_of(database) as outbox:
        outbox.defer(outbox.next(), wait_s=-1)
        monkeypatch.setattr(clock, "datetime", ClockAhead.by(timedelta(days=days)))
        with capture_logs() as logs, delivering(database, receiver.url, give_up_after_h=0.5):
            receiver.wait_for(2)
        assert not logged(logs, "webhook_given_up")
        assert outbox.waiting() == 1


class ClockAhead(datetime):
    """A clock that is set wrong."""

    error = timedelta()

    @classmethod
    def by(cls, error: timedelta) -> type["ClockAhead"]:
        return type("ClockAhead", (cls,), {"error": error})

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + cls.error


def test_an_event_that_is_sent_again_keeps_its_id(database, receiver):
    quarantine(database, "a.tif", "b.tif")
    with delivering(database, receiver.url):
        receiver.wait_until_taken(2)
        with outbox_of(database) as outbox:
            assert outbox.send_again(event_id=1) == 1
        receiver.wait_until_taken(3)
    assert names(receiver.taken) == ["a.tif", "b.tif", "a.tif"]
    assert receiver.headers[2]["webhook-id"] == receiver.headers[0]["webhook-id"]


def test_will_retry_is_true_after_a_failure_and_false_after_a_quarantine(database, receiver):
    with closing(open_database(database)) as db:
        job = claimed(JobQueue(db), database.parent / "a.tif")
        JobQueue(db).retry_later(job, "The engine failed.", max_attempts=3)
    quarantine(database, "b.tif")
    with delivering(database, receiver.url):
        receiver.wait_until_taken(2)
    failed, quarantined = receiver.taken
    assert failed["type"] == "slide.failed"
    assert failed["data"] == {
        "reason": "The engine failed.",
        "will_retry": True,
        "job_id": job.id,
        "path": str(job.path),
        "file_name": "a.tif",
        "barcode": None,
        "attempts": 1,
    }
    assert (quarantined["type"], quarantined["data"]["will_retry"]) == ("slide.quarantined", False)


def test_a_postponement_is_not_sent(database):
    with closing(open_database(database)) as db:
        jobs = JobQueue(db)
        jobs.postpone(claimed(jobs, database.parent / "a.tif"), "No room for heatmaps.", 30)
        assert Outbox(db).next() is None


def test_a_failure_is_not_sent_again_when_the_priority_of_its_job_changes(database):
    with closing(open_database(database)) as db:
        jobs = JobQueue(db)
        job = claimed(jobs, database.parent / "a.tif")
        jobs.retry_later(job, "The engine failed.", max_attempts=3)
        prioritise(jobs, job.id, 5)
        outbox = Outbox(db)
        outbox.done(outbox.next())
        assert outbox.next() is None


def test_log_lines_about_an_event_have_its_job_id(database, receiver, capsys):
    configure_logging("json", "info")
    quarantine(database, "a.tif")
    receiver.answers = [401]
    with delivering(database, receiver.url):
        receiver.wait_until_taken(1)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    refused, delivered = (line for line in lines if line["event"].startswith("webhook_"))
    assert (refused["event"], refused["status"], refused["job_id"]) == ("webhook_refused", 401, 1)
    assert (delivered["event"], delivered["job_id"]) == ("webhook_delivered", 1)


def test_the_webhook_waits_for_a_database_that_cannot_be_opened(tmp_path, receiver):
    folder = tmp_path / "folder"
    folder.write_text("a file where the folder should be")
    with capture_logs() as logs, delivering(folder / "her2d.sqlite", receiver.url):
        wait_until(lambda: logged(logs, "webhook_interrupted"))
        folder.unlink()
        open_database(folder / "her2d.sqlite").close()
        wait_until(lambda: is_set_up(folder / "her2d.sqlite"))
        quarantine(folder / "her2d.sqlite", "a.tif")
        receiver.wait_until_taken(1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_webhook_whose_thread_died_is_replaced(database, receiver, monkeypatch):
    quarantine(database, "a.tif")
    run = Webhook.run
    died = threading.Event()

    def dies_at_first(webhook: Webhook) -> None:
        if not died.is_set():
            died.set()
            raise GeneratorExit
        run(webhook)

    monkeypatch.setattr(Webhook, "run", dies_at_first)
    stop = threading.Event()
    sender = WebhookSender(WebhookSettings(url=receiver.url), database, stop)
    sender.check()
    died.wait(PATIENCE_S)
    sender.join(PATIENCE_S)
    sender.check()
    receiver.wait_until_taken(1)
    stop.set()
    sender.join(PATIENCE_S)


def test_events_from_before_the_webhook_was_set_up_are_not_sent(tmp_path, receiver):
    path = tmp_path / "her2d.sqlite"
    quarantine(path, "past.tif")
    with delivering(path, receiver.url):
        wait_until(lambda: is_set_up(path))
        quarantine(path, "present.tif")
        receiver.wait_for(1)
    assert receiver.documents[0]["data"]["path"].endswith("present.tif")


@pytest.mark.parametrize("secret", ["whsec_short", "whsec_c2hvcnQ=", "not base64 at all"])
def test_an_invalid_secret_is_refused_and_not_printed(tmp_path, monkeypatch, secret):
    monkeypatch.setenv("HER2D_WEBHOOK__SECRET", secret)
    with pytest.raises(SettingsError, match=r"webhook\.secret") as refused:
        load_settings(None)
    assert secret not in str(refused.value)


def test_a_secret_is_not_shown_with_the_settings():
    settings = WebhookSettings(secret=SECRET)
    assert SECRET not in settings.model_dump_json() + repr(settings)


def test_a_receiver_whose_answers_never_end_gets_every_event_and_the_log_says_so(database):
    quarantine(database, "a.tif", "b.tif")
    answers = partial(itertools.chain, [OK + b"\r\n"])
    with (
        hostile_receiver(lambda: answers(endless(b"x", 0.02))) as receiver,
        capture_logs() as logs,
        delivering(database, receiver.url, timeout_s=0.3),
    ):
        wait_until(lambda: sum(line["event"] == "webhook_delivered" for line in logs) == 2)
    cut = [line for line in logs if line["event"] == "webhook_answer_cut"]
    assert [line["status"] for line in cut] == [200, 200]
    assert cut[0]["reason"] == "The answer did not end within 0.3 s. Its status counts."


def test_a_receiver_whose_headers_never_end_is_logged_at_each_attempt(database):
    quarantine(database, "a.tif")
    with (
        hostile_receiver(lambda: dripping(OK * 999)) as receiver,
        capture_logs() as logs,
        delivering(database, receiver.url, timeout_s=0.3),
    ):
        wait_until(lambda: sum(line["event"] == "webhook_unreachable" for line in logs) >= 2)
    assert {line.get("reason") for line in logs} == {"No answer within 0.3 s."}
