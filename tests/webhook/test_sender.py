"""The webhook, against a real receiver."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

import pytest
import waiting
from standardwebhooks import Webhook as Receiving
from structlog.testing import capture_logs
from webhook_receiver import PATIENCE_S, Receiver, receiving

import her2d.webhook.sender
from her2d.db.connection import open_database
from her2d.monitoring.log import configure_logging
from her2d.queue.operator import prioritise
from her2d.queue.store import JobQueue
from her2d.settings import SettingsError, WebhookSettings, load_settings
from her2d.system.file_identity import FileState
from her2d.webhook.outbox import Outbox
from her2d.webhook.sender import Messenger, Webhook, signature

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

wait_until = partial(waiting.wait_until, patience_s=PATIENCE_S)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def database(tmp_path):
    """A new database whose webhook has been set up: what happens next is news."""
    path = tmp_path / "her2d.sqlite"
    db = open_database(path)
    db.execute("insert into webhook_cursor values (1, 0, '')")
    db.conn.commit()
    db.close()
    return path


def quarantine(database, *names: str) -> None:
    db = open_database(database)
    for name in names:
        JobQueue(db).refuse(database.parent / name, FileState(1, 2, 3), f"{name} is no slide.")
    db.close()


@contextmanager
def notifying(database, url: str, **settings: object) -> Iterator[None]:
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
    return [told["data"]["file_name"] for told in documents]


def logged(logs: list, event: str) -> bool:
    return any(line["event"] == event for line in logs)


def test_a_quarantine_is_told_with_its_reason(database, receiver):
    quarantine(database, "bad.tif")
    with notifying(database, receiver.url):
        receiver.wait_for(1)
    (told,) = receiver.documents
    assert told["type"] == "slide.quarantined"
    assert told["data"]["reason"] == "bad.tif is no slide."
    assert told["data"]["path"].endswith("bad.tif")


def test_a_receivers_own_library_accepts_the_signature(database, receiver):
    quarantine(database, "bad.tif")
    with notifying(database, receiver.url, secret=SECRET):
        receiver.wait_for(1)
    Receiving(SECRET).verify(receiver.bodies[0], receiver.headers[0])


def test_the_signature_is_the_one_of_the_specification():
    # https://github.com/standard-webhooks/standard-webhooks gives this example.
    found = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_event_is_tried_until_it_is_taken_and_keeps_its_id(database, receiver):
    receiver.answers = [503, 429]
    quarantine(database, "a.tif", "b.tif")
    with notifying(database, receiver.url):
        receiver.wait_for(4)
    ids = [headers["webhook-id"] for headers in receiver.headers]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert [told["data"]["path"][-5:] for told in receiver.documents] == ["a.tif"] * 3 + ["b.tif"]


@pytest.mark.parametrize(
    "answer",
    [302, 404, 503]
    + [
        pytest.param(answer, marks=pytest.mark.slow)
        for answer in (301, 307, 400, 401, 403, 422, 500)
    ],
)
def test_whatever_is_no_success_is_tried_again_where_it_was_sent(database, receiver, answer):
    receiver.answers = [answer]
    quarantine(database, "a.tif")
    with notifying(database, receiver.url):
        receiver.wait_until_taken(1)
    assert [headers["path"] for headers in receiver.headers] == ["/hook", "/hook"]


def test_a_receiver_that_does_not_answer_in_time_is_tried_again(database, receiver):
    quarantine(database, "a.tif")
    with notifying(database, receiver.url.replace("hook", "slow"), timeout_s=0.2):
        receiver.wait_for(2)


def test_a_receiver_that_is_gone_is_left_alone_until_the_next_start_and_loses_nothing(
    database, receiver
):
    receiver.answers = [410]
    quarantine(database, "a.tif", "b.tif")
    with capture_logs() as logs, notifying(database, receiver.url):
        wait_until(lambda: logged(logs, "webhook_gone"))
    assert len(receiver.bodies) == 1
    with notifying(database, receiver.url):
        receiver.wait_until_taken(2)
    assert names(receiver.taken) == ["a.tif", "b.tif"]


@pytest.mark.slow
def test_an_event_that_is_never_taken_does_not_hold_up_the_next_ones(database, receiver):
    receiver.answer_to = lambda told: 500 if told["data"]["file_name"] == "poison.tif" else 204
    quarantine(database, "poison.tif", "a.tif", "b.tif")
    with notifying(database, receiver.url):
        receiver.wait_until_taken(2)
        tried = len(receiver.bodies)
        receiver.wait_for(tried + 1)
    assert names(receiver.taken) == ["a.tif", "b.tif"]
    assert receiver.documents[tried]["data"]["file_name"] == "poison.tif"


def test_a_new_event_does_not_wait_for_the_next_try_of_one_that_stepped_aside(
    database, receiver, monkeypatch
):
    monkeypatch.setattr(her2d.webhook.sender, "_FIRST_RETRY_S", 3600.0)
    monkeypatch.setattr(her2d.webhook.sender, "LONGEST_WAIT_S", 3600.0)
    receiver.answer_to = lambda told: 500 if told["data"]["file_name"] == "poison.tif" else 204
    quarantine(database, "poison.tif")
    with outbox_of(database) as outbox:
        outbox.step_aside(outbox.next(), wait_s=-1)
    with notifying(database, receiver.url):
        receiver.wait_for(1)
        quarantine(database, "new.tif")
        receiver.wait_until_taken(1)
    assert names(receiver.taken) == ["new.tif"]


def test_an_event_that_stepped_aside_is_tried_after_a_restart_as_well(database, receiver):
    quarantine(database, "poison.tif", "a.tif")
    with outbox_of(database) as outbox:
        outbox.step_aside(outbox.next(), wait_s=-1)
    with notifying(database, receiver.url):
        receiver.wait_until_taken(2)
    with outbox_of(database) as outbox:
        assert outbox.next() is None
    assert names(receiver.taken) == ["a.tif", "poison.tif"]


def test_an_event_that_stepped_aside_and_is_due_lets_those_pass_that_never_were_tried(database):
    quarantine(database, "poison.tif", "a.tif", "b.tif")
    with outbox_of(database) as outbox:
        outbox.step_aside(outbox.next(), wait_s=-1)
        told = []
        while event := outbox.next():
            told.append(event.detail)
            outbox.done(event)
    assert told == ["a.tif is no slide.", "b.tif is no slide.", "poison.tif is no slide."]


def test_an_event_that_stepped_aside_waits_for_its_time(database):
    quarantine(database, "poison.tif", "a.tif")
    with outbox_of(database) as outbox:
        outbox.step_aside(outbox.next(), wait_s=300)
        found = outbox.next()
        assert found.detail == "a.tif is no slide."
        outbox.done(found)
        assert outbox.next() is None


def test_an_event_that_stepped_aside_while_the_clock_was_ahead_is_tried_once_that_is_put_back(
    database,
):
    quarantine(database, "poison.tif")
    with outbox_of(database) as outbox:
        event = outbox.next()
        outbox.step_aside(event, wait_s=365 * 24 * 3600)
        assert outbox.next().id == event.id


def test_events_of_two_databases_and_of_a_restored_one_have_ids_of_their_own(tmp_path):
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


def test_nothing_is_lost_while_the_receiver_is_away_or_the_daemon_stopped(database, receiver):
    with notifying(database, "http://127.0.0.1:9/hook"):  # the discard port: nobody listens
        quarantine(database, "a.tif")
        with outbox_of(database) as outbox:
            assert outbox.next() is not None
    quarantine(database, "b.tif")
    with notifying(database, receiver.url):
        receiver.wait_for(2)
    with notifying(database, receiver.url):
        quarantine(database, "c.tif")
        receiver.wait_for(3)
    assert names(receiver.documents) == ["a.tif", "b.tif", "c.tif"]


def test_an_event_is_told_however_old_it_is_when_the_daemon_comes_to_it(database, receiver):
    quarantine(database, "old.tif")
    change(database, "update events set at = '2020-01-01T00:00:00.000000Z'")
    with notifying(database, receiver.url, give_up_after_h=1.0):
        receiver.wait_until_taken(1)


def test_an_event_that_was_tried_for_too_long_is_given_up(database, receiver):
    receiver.answer_to = lambda told: 500 if told["data"]["file_name"] == "old.tif" else 204
    quarantine(database, "old.tif", "new.tif")
    with outbox_of(database) as outbox:
        outbox.step_aside(outbox.next(), wait_s=-1)
    change(database, "update webhook_aside set since = '2020-01-01T00:00:00.000000Z'")
    with capture_logs() as logs, notifying(database, receiver.url, give_up_after_h=1.0):
        wait_until(lambda: logged(logs, "webhook_given_up"))
    assert names(receiver.documents) == ["new.tif", "old.tif"]
    with outbox_of(database) as outbox:
        assert outbox.next() is None


def test_what_is_told_again_has_the_id_it_had(database, receiver):
    quarantine(database, "a.tif", "b.tif")
    with notifying(database, receiver.url):
        receiver.wait_until_taken(2)
        with outbox_of(database) as outbox:
            assert outbox.send_again(event_id=1) == 1
        receiver.wait_until_taken(3)
    assert names(receiver.taken) == ["a.tif", "b.tif", "a.tif"]
    assert receiver.headers[2]["webhook-id"] == receiver.headers[0]["webhook-id"]


def test_a_failure_says_that_the_slide_is_tried_again_and_a_quarantine_that_it_is_not(
    database, receiver
):
    with closing(open_database(database)) as db:
        job = claimed(JobQueue(db), database.parent / "a.tif")
        JobQueue(db).retry_later(job, "The engine failed.", max_attempts=3)
    quarantine(database, "b.tif")
    with notifying(database, receiver.url):
        receiver.wait_until_taken(2)
    failed, quarantined = receiver.taken
    assert failed["type"] == "slide.failed"
    assert failed["data"] == {
        "reason": "The engine failed.",
        "will_retry": True,
        "job_id": job.id,
        "path": str(job.path),
        "file_name": "a.tif",
        "attempts": 1,
    }
    assert (quarantined["type"], quarantined["data"]["will_retry"]) == ("slide.quarantined", False)


def test_a_postponement_is_no_news(database):
    with closing(open_database(database)) as db:
        jobs = JobQueue(db)
        jobs.postpone(claimed(jobs, database.parent / "a.tif"), "No room for heatmaps.", 30)
        assert Outbox(db).next() is None


def test_a_failed_file_that_is_moved_forward_has_not_failed_again(database):
    with closing(open_database(database)) as db:
        jobs = JobQueue(db)
        job = claimed(jobs, database.parent / "a.tif")
        jobs.retry_later(job, "The engine failed.", max_attempts=3)
        prioritise(jobs, job.id, 5)
        outbox = Outbox(db)
        outbox.done(outbox.next())
        assert outbox.next() is None


def test_lines_about_an_event_say_which_job_it_is_of(database, receiver, capsys):
    configure_logging("json", "info")
    quarantine(database, "a.tif")
    receiver.answers = [401]
    with notifying(database, receiver.url):
        receiver.wait_until_taken(1)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    refused, delivered = (line for line in lines if line["event"].startswith("webhook_"))
    assert (refused["event"], refused["status"], refused["job_id"]) == ("webhook_refused", 401, 1)
    assert (delivered["event"], delivered["job_id"]) == ("webhook_delivered", 1)


def test_a_database_that_cannot_be_opened_at_the_start_is_waited_for(tmp_path, receiver):
    folder = tmp_path / "folder"
    folder.write_text("a file where the folder should be")
    with capture_logs() as logs, notifying(folder / "her2d.sqlite", receiver.url):
        wait_until(lambda: logged(logs, "webhook_interrupted"))
        folder.unlink()
        wait_until((folder / "her2d.sqlite").exists)
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
    messenger = Messenger(WebhookSettings(url=receiver.url), database, stop)
    messenger.tend()
    died.wait(PATIENCE_S)
    messenger.join(PATIENCE_S)
    messenger.tend()
    receiver.wait_until_taken(1)
    stop.set()
    messenger.join(PATIENCE_S)


def test_a_new_webhook_is_not_told_the_past(tmp_path, receiver):
    path = tmp_path / "her2d.sqlite"
    quarantine(path, "past.tif")
    with notifying(path, receiver.url):
        wait_until(lambda: is_set_up(path))
        quarantine(path, "present.tif")
        receiver.wait_for(1)
    assert receiver.documents[0]["data"]["path"].endswith("present.tif")


@pytest.mark.parametrize("secret", ["whsec_short", "whsec_c2hvcnQ=", "not base64 at all"])
def test_a_bad_secret_is_refused_and_never_printed(tmp_path, monkeypatch, secret):
    monkeypatch.setenv("HER2D_WEBHOOK__SECRET", secret)
    with pytest.raises(SettingsError, match=r"webhook\.secret") as refused:
        load_settings(None)
    assert secret not in str(refused.value)


def test_a_secret_is_not_shown_with_the_settings():
    settings = WebhookSettings(secret=SECRET)
    assert SECRET not in settings.model_dump_json() + repr(settings)
