"""`her2d doctor` names what is wrong with an installation, and what to do about it there.

Each function breaks a sound installation in one real way. The installation has the project's own
units; where no systemd runs, tests/doubles/systemctl.py reads them. Run by root, doctor checks
permissions as the units' user, and so do these tests.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

import onnx
import pytest
from installation import (
    IS_ROOT,
    SERVICE,
    UNITS,
    Installation,
    change_database,
    installation,
    lock_database,
    needs_root,
    run_webhook,
    self_signed,
    small_disk,
)
from onnx import TensorProto, helper
from systemctl import write_answers

from her2d.db.lock import hold_daemon_lock
from her2d.system.clock import in_seconds

ME = SERVICE.pw_name
FAILURE, WARNING = "failure", "warning"


@pytest.fixture(scope="module", autouse=True)
def _imports(tmp_path_factory, color_bundle):
    if IS_ROOT:
        with (
            pytest.MonkeyPatch.context() as patch,
            installation(tmp_path_factory.mktemp("first") / "site", color_bundle, patch) as first,
        ):
            first.import_everything()


@pytest.fixture
def site(tmp_path, color_bundle, monkeypatch):
    with installation(tmp_path / "site", color_bundle, monkeypatch) as found:
        yield found


@dataclass(frozen=True)
class Row:
    """One way to break an installation, and what doctor says.

    Attributes:
        breaks: breaks it.
        severity: of the finding.
        says: the finding's sentences, with {name} for what `breaks` may change.
        remedy: what it says to do.
        also: checks that report consequences of the same cause.
    """

    breaks: Callable[[Installation], dict[str, object] | None]
    severity: str
    says: str
    remedy: str
    also: tuple[str, ...] = ()
    marks: list[pytest.MarkDecorator] = field(default_factory=list)


ROWS: list[Row] = []


def broken(severity: str, says: str, remedy: str, *marks: pytest.MarkDecorator, also=()):
    def add(breaks):
        ROWS.append(Row(breaks, severity, says, remedy, tuple(also), list(marks)))
        return breaks

    return add


def test_a_sound_installation_has_no_problem(site):
    code, findings, stderr = site.doctor()
    assert [f for f in findings if f["severity"] != "ok"] == []
    assert (code, stderr) == (0, "")


# Settings


@broken(
    WARNING,
    "Every user of this machine can read {config}, which contains [webhook] secret.",
    "Move that to /etc/her2d/secrets.env (mode 600), or run sudo chmod o-r {config}.",
)
def a_config_with_a_secret_that_everyone_can_read(site):
    site.set("webhook", secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    site.write_config()
    site.config.chmod(0o644)


@broken(
    WARNING,
    "Every user of this machine can read {config}, which contains a [webhook] url with a password"
    " or token.",
    "Move that to /etc/her2d/secrets.env (mode 600), or run sudo chmod o-r {config}.",
)
def a_config_with_a_token_in_an_address_that_everyone_can_read(site):
    site.set("webhook", url=run_webhook(site) + "/t0ken-1234567890abcdef")
    site.write_config()
    site.config.chmod(0o644)


@broken(
    WARNING,
    "Every user of this machine can read the secrets in {secrets}.",
    "Run sudo chown root: {secrets} and sudo chmod 600 {secrets}, then choose new secrets.",
)
def a_file_of_secrets_that_everyone_can_read(site):
    secrets = site.config.with_name("secrets.env")
    secrets.write_text("HER2D_OPS__PSEUDONYM_KEY=sixteen characters\n")
    secrets.chmod(0o644)
    site.drop_in(f"EnvironmentFile=-{secrets}")
    return {"secrets": secrets}


@broken(
    WARNING,
    "her2d.service has HER2D_WEBHOOK__SECRET as Environment=, which every user of this machine can"
    " read with systemctl show.",
    "Move the line to /etc/her2d/secrets.env (mode 600), which her2d.service reads.",
)
def a_secret_in_a_drop_in(site):
    site.drop_in("Environment=HER2D_WEBHOOK__SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


@broken(
    WARNING,
    "User daemon can change {config}, and with it where her2d writes.",
    "Run sudo chown root: {config}, and keep it in a folder of root, such as /etc/her2d.",
    needs_root,
)
def a_config_of_another_user(site):
    site.config.chmod(0o644)
    shutil.chown(site.config, "daemon")


@broken(
    WARNING,
    "Every user of this machine can change {config}.",
    "Run sudo chmod o-w {config}.",
)
def a_config_that_everyone_can_change(site):
    site.config.chmod(0o646)


@broken(
    FAILURE,
    "User {me} cannot read {config}.",
    "Run sudo chgrp {me} {config} and sudo chmod g+r {config}.",
    needs_root,
)
def a_config_that_the_service_cannot_read(site):
    site.config.chmod(0o600)


@broken(
    FAILURE,
    "[intake] settle_s (7200 s) is not shorter than incomplete_after_s (3600 s), so a scan that is"
    " still being written is quarantined at its first examination.",
    "Set incomplete_after_s to several times settle_s, and longer than any pause of the scanner.",
)
def a_settling_time_longer_than_that_of_unfinished_files(site):
    site.set("intake", settle_s=7200.0)


@broken(
    FAILURE,
    "[intake] stalled_after_s (3 s) is shorter than a large batch or a slow share may take (30 s),"
    " so a sound slide counts as stalled, and the watchdog restarts the daemon.",
    "Set stalled_after_s to its default, 900, or to a few minutes at least.",
)
def a_stall_limit_shorter_than_the_work(site):
    site.set("intake", stalled_after_s=3.0)


@broken(
    FAILURE,
    "[pipeline] batch_wait_s (1000 s) is not shorter than [intake] stalled_after_s (900 s), so a"
    " slide that waits for a batch counts as stalled, and the watchdog restarts the daemon.",
    "Set batch_wait_s to its default, 0.2, or raise stalled_after_s.",
)
def a_wait_for_batches_longer_than_the_stall_limit(site):
    site.set("pipeline", batch_wait_s=1000.0)


@broken(
    WARNING,
    "[results] keep_tiles_days (0.5) is shorter than the time between two backups, so tile rows are"
    " deleted before a backup holds them.",
    "Set keep_tiles_days to several days at least, or make backups more often.",
)
def a_retention_shorter_than_the_time_between_backups(site):
    site.set("results", keep_tiles_days=0.5)


@broken(
    WARNING,
    "[pipeline] segmenter_batch (64) is larger than queue_tiles (32), so a batch has 32 tiles at"
    " most.",
    "Set queue_tiles to 128, or segmenter_batch to 32.",
)
def a_batch_larger_than_its_queue(site):
    site.set("pipeline", segmenter_batch=64)


# Inboxes


@broken(
    FAILURE,
    "This folder does not exist.",
    "Create it, mount its share, or correct [intake] inboxes.",
)
def a_missing_inbox(site):
    site.inbox.rmdir()


@broken(
    FAILURE,
    "User {me} cannot read this folder.",
    "Give that user read permission with chmod, or add it to the folder's group.",
    needs_root,
    also=["inbox"],
)
def an_inbox_that_the_service_cannot_read(site):
    shutil.chown(site.inbox, "root")
    site.inbox.chmod(0o700)


@broken(
    FAILURE,
    "User {me} cannot enter {closed}, which this folder is in.",
    "Run sudo chmod o+x {closed}, or add the user to the group of that folder.",
    needs_root,
    also=["inbox", "[intake] archive"],
)
def an_inbox_in_a_folder_that_the_service_cannot_enter(site):
    shutil.chown(site.inbox.parent, "root")
    site.inbox.parent.chmod(0o700)
    return {"closed": site.inbox.parent}


@broken(
    FAILURE,
    "{inbox} is not mounted, which /etc/fstab lists, so scans there are not found.",
    "Run sudo mount {inbox}, whose message says what is wrong.",
)
def an_inbox_that_is_not_mounted(site):
    fstab = site.folder / "etc" / "fstab"
    fstab.write_text(f"//scanner/out {site.inbox} cifs ro 0 0\n")
    site.monkeypatch.setattr("her2d.doctor.inboxes._FSTAB", fstab)


@broken(
    WARNING,
    "The inbox {inner} is in the inbox {inbox}, so chance decides to which of them its scans"
    " belong, and where in the archive they are moved.",
    "Remove {inner} from [intake] inboxes. {inbox} is searched with its subfolders.",
)
def nested_inboxes(site):
    inner = site.inbox / "scanner-2"
    inner.mkdir()
    site.give(inner)
    site.set("intake", inboxes=[str(site.inbox), str(inner)])
    return {"inner": inner}


@broken(
    FAILURE,
    "{link} and {inbox} are the same folder, so each scan is found twice.",
    "Remove one of them from [intake] inboxes.",
)
def one_inbox_by_two_names(site):
    link = site.inbox.with_name("link")
    link.symlink_to(site.inbox)
    site.set("intake", inboxes=[str(site.inbox), str(link)])
    return {"link": link}


@broken(
    WARNING,
    "{heatmaps} is in the inbox {inbox}, which is searched for scans.",
    "Set [results] heatmaps to a place outside the inboxes.",
)
def heatmaps_in_an_inbox(site):
    heatmaps = site.inbox / "heatmaps"
    site.set("results", heatmaps=str(heatmaps))
    return {"heatmaps": heatmaps}


@broken(
    FAILURE,
    "User {me} cannot read a.tif and 1 more.",
    "Give that user read permission with chmod, or add it to the group of the files. Let the"
    " scanner create files that the group can read (umask 027).",
    needs_root,
)
def scans_that_the_service_cannot_read(site):
    for name in ("a.tif", "b.tif"):
        scan = site.inbox / name
        scan.write_bytes(b"II*\0")
        scan.chmod(0o600)


@broken(
    WARNING,
    "notes.docx is not read as a scan. Nor are 1 other files.",
    "Nothing here reads such files. Add '.docx' to [intake] extensions if such files are scans, or"
    " '*.docx' to [intake] ignore if they may stay.",
)
def files_that_no_rule_takes(site):
    for name in ("notes.docx", "report.docx"):
        (site.inbox / name).write_bytes(b"text")


# Disks


@broken(
    FAILURE,
    "The disk holds 2 MB in all, less than [intake] min_free_mb (50 MB), so intake is always"
    " paused.",
    "Set min_free_mb below 2, or use a larger disk.",
    needs_root,
)
def more_free_space_demanded_than_the_disk_holds(site):
    small_disk(site, site.state / "heatmaps")
    site.set("intake", min_free_mb=50.0)


@broken(
    FAILURE,
    "1 MB are free, less than [intake] min_free_mb (3 MB), so intake is paused.",
    "Run her2d db prune, move old heatmaps away, use a larger disk, or lower min_free_mb.",
    needs_root,
)
def less_free_space_than_intake_demands(site):
    small_disk(site, site.state / "heatmaps", "4m")
    (site.state / "heatmaps" / "old.png").write_bytes(bytes(3_100_000))
    site.set("intake", min_free_mb=3.0)


@broken(
    FAILURE,
    "User {me} cannot write to {heatmaps}: Permission denied.",
    "Run sudo chown {me}: {heatmaps}, or set another folder in config.toml.",
)
def heatmaps_in_a_folder_that_the_service_cannot_write(site):
    heatmaps = site.state / "heatmaps"
    heatmaps.chmod(0o555)
    return {"heatmaps": heatmaps}


@broken(
    FAILURE,
    "User {me} cannot write to {other}: Permission denied.",
    "Run sudo install -d -o {me} -m 750 {heatmaps}, or set another folder in config.toml.",
)
def heatmaps_in_a_folder_that_nobody_created(site):
    other = site.folder / "other"
    other.mkdir(mode=0o555)
    site.set("results", heatmaps=str(other / "heatmaps"))
    return {"heatmaps": other / "heatmaps", "other": other}


@broken(
    FAILURE,
    "User {me} cannot write to {archive}: Permission denied.",
    "Run sudo chown {me}: {archive}, or set another folder in config.toml.",
)
def an_archive_that_the_service_cannot_write(site):
    site.archive.chmod(0o555)


@broken(
    WARNING,
    "{archive} is on another file system than the inbox {inbox}, so each finished file is copied,"
    " compared and then deleted.",
    "No action is needed if that is fast enough. In a folder on the inbox's file system a file is"
    " there at once.",
    needs_root,
)
def an_archive_on_another_file_system(site):
    small_disk(site, site.archive)


@broken(
    FAILURE,
    "User {me} cannot move finished files out of this inbox.",
    'Give that user write permission, or set [intake] on_success and on_failure to "leave".',
)
def an_inbox_that_files_cannot_be_moved_out_of(site):
    site.inbox.chmod(0o555)


# The database


@broken(
    FAILURE,
    "User {me} cannot access {database}.",
    "If a command run as root created it, run sudo chown -R {me}: {database}*",
    needs_root,
)
def a_database_of_root(site):
    shutil.chown(site.database, "root", "root")
    site.database.chmod(0o640)


@broken(
    FAILURE,
    "User {me} cannot write to {database}.",
    "If a command run as root created it, run sudo chown -R {me}: {database}*",
    needs_root,
)
def a_database_of_root_that_others_may_read(site):
    shutil.chown(site.database, "root", "root")
    site.database.chmod(0o644)


@broken(
    FAILURE,
    "User {me} cannot access {database}.",
    "If a command run as root created it, run sudo chown -R {me}: {state}",
    needs_root,
    also=["database's folder", "heatmaps' folder", "backups' folder"],
)
def a_state_folder_of_root(site):
    shutil.chown(site.state, "root", "root")
    site.state.chmod(0o700)
    return {"state": site.state}


@broken(
    FAILURE,
    "User {me} cannot write to {state}: Permission denied.",
    "Run sudo chown {me}: {state}, or set another folder in config.toml.",
    also=["database"],
)
def a_database_in_a_folder_that_the_service_cannot_write(site):
    site.state.chmod(0o555)
    return {"state": site.state}


@broken(
    FAILURE,
    "The database {database} is on NFS, where SQLite can damage it.",
    "Set [results] database to a file on a disk of this machine.",
)
def a_database_on_a_share(site):
    # No test can mount NFS, so the kernel's number of the file system is replaced.
    site.monkeypatch.setattr("her2d.system.filesystems.file_system_type", lambda _: 0x6969)


@broken(
    FAILURE,
    "{database} is the database of another program. Change [results] database.",
    "Set [results] database to her2d's own file, or to a path where her2d can create a new one.",
)
def a_database_of_another_program(site):
    site.database.unlink()
    change_database(site, "create table patients (name)")


@broken(
    FAILURE,
    "The database {database} was written by a newer version of her2d (schema 999; this version"
    " supports 1). Install the newer version.",
    "Install that version, or stop her2d and run her2d db restore with a copy from before the"
    " update.",
)
def a_database_of_a_newer_version(site):
    change_database(site, "pragma user_version = 999")


@broken(
    FAILURE,
    "Another her2d daemon (process {process}) already works on {database}. her2d.service did not"
    " start it, and cannot work on the same database.",
    "Run sudo kill {process}, then sudo systemctl restart her2d.service.",
)
def a_second_daemon_that_somebody_started_by_hand(site):
    lock = hold_daemon_lock(site.database)
    lock.__enter__()
    site.on_exit.append(lambda: lock.__exit__(None, None, None))
    site.unit_state("ActiveState=activating", "MainPID=0")
    return {"process": os.getpid()}


@broken(
    FAILURE,
    "Another program keeps the database {database} locked.",
    "Run sudo fuser -v {database}, which names it, and end it.",
)
def a_database_that_another_program_keeps_locked(site):
    lock_database(site)
    site.monkeypatch.setattr("her2d.doctor.database._LOCKED_S", 0.2)


@broken(
    FAILURE,
    "The database {database} is damaged: ",
    "Run her2d db check for details of the damage, and her2d db restore to restore a backup.",
)
def a_damaged_database(site):
    with site.database.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 8 * 4096)


@broken(
    FAILURE,
    "The database {database} is missing, but there is a backup of it, {backup}. Mount its disk, or"
    " restore a backup with her2d db restore. To begin with an empty database instead, run her2d db"
    " create.",
    "Mount its disk, restore a backup with her2d db restore, or run her2d db create.",
)
def a_database_that_is_gone(site):
    site.database.unlink()
    return {"backup": next((site.state / "backups").iterdir())}


# Backups


@broken(
    WARNING,
    "The newest backup, {backup}, is 30 days old.",
    "Run journalctl -u her2d-care, which says why; systemctl list-timers her2d-care.timer names the"
    " next run.",
)
def backups_that_are_too_old(site):
    (backup,) = (site.state / "backups").iterdir()
    then = datetime.now(UTC) - timedelta(days=30)
    old = backup.rename(backup.with_name(f"her2d-{then:%Y%m%dT%H%M%S%f}Z.sqlite"))
    os.utime(old, (then.timestamp(), then.timestamp()))
    return {"backup": old}


@broken(
    WARNING,
    "There is no backup of {database}.",
    "Run journalctl -u her2d-care, which says why; systemctl list-timers her2d-care.timer names the"
    " next run.",
)
def no_backup_of_an_old_database(site):
    for backup in (site.state / "backups").iterdir():
        backup.unlink()
    change_database(
        site,
        "insert into jobs (path, file_name, inbox, state, size, mtime_ns, discovered_at)"
        f" values ('/a.tif', 'a.tif', '/', 'done', 1, 1, '{in_seconds(-9e5)}')",
    )


@broken(
    FAILURE,
    "User {me} cannot write to {backups}: Permission denied.",
    "Run sudo chown {me}: {backups}, or set another folder in config.toml.",
)
def backups_in_a_folder_that_the_service_cannot_write(site):
    backups = site.state / "backups"
    backups.chmod(0o555)
    return {"backups": backups}


# The clock and the models


@broken(
    WARNING,
    "and is not synchronised with a time server.",
    "Run timedatectl set-ntp true.",
)
def a_clock_that_is_not_synchronised(site):
    site.program("timedatectl", "echo no")


@broken(
    FAILURE,
    "There is no readable model bundle in {bundle}: manifest.toml: No such file or directory.",
    "Copy the bundle again, or set another [bundle] path.",
)
def a_missing_bundle(site):
    shutil.rmtree(site.bundle)


@broken(
    FAILURE,
    "The bundle's {bundle}/segmenter.onnx differs from the manifest:",
    "Copy the bundle again, or set another [bundle] path.",
)
def an_altered_bundle(site):
    with (site.bundle / "segmenter.onnx").open("ab") as file:
        file.write(b"!")


@broken(
    WARNING,
    "It was made with scikit-learn 1.5.0, but",
    "-m pip install scikit-learn==1.5.0, or build the bundle again with the installed version.",
)
def a_bundle_made_with_another_scikit_learn(site):
    path = site.bundle / "integrator.skops"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    import sklearn

    schema = files["schema.json"].decode()
    files["schema.json"] = schema.replace(
        json.dumps(json.dumps(sklearn.__version__)), json.dumps(json.dumps("1.5.0"))
    ).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    site.manifest_follows("integrator")


@broken(
    WARNING,
    "onnxruntime-int8.plan.json is not used. The plan onnxruntime-int8 is refused. It was not"
    " compiled from the bundle's segmenter.onnx.",
    "Compile it again here once that is mended, or delete {bundle}/onnxruntime-int8.*.",
)
def a_compiled_plan_of_an_earlier_bundle(site):
    part = {
        "source_sha256": "0" * 64,
        "plan_sha256": "1" * 64,
        "profile": {"smallest": 1, "best": 4, "most": 4},
    }
    sidecar = {
        **{"backend": "onnxruntime", "precision": "int8", "library_version": "1"},
        **{"gpu": "none", "compute_capability": "none", "segmenter": part, "classifiers": part},
        **{"parity": None, "compiled_at": in_seconds(0), "software_version": "0"},
    }
    (site.bundle / "onnxruntime-int8.plan.json").write_text(json.dumps(sidecar))


@broken(
    FAILURE,
    "tensorrt does not work here. tensorrt is not installed",
    'Set [inference] backend = "auto" to use the best back end that works here.',
    pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed"),
)
def a_back_end_whose_gpu_is_not_there(site):
    site.set("inference", backend="tensorrt")


@broken(
    FAILURE,
    "On this machine, ONNX Runtime computes segmenter.onnx, rewritten for the CPU, differently from"
    " the bundle's own. The daemon computes with the rewritten networks all the same,",
    "Stop the daemon, and install the version of ONNX Runtime that her2d is tested with:",
)
def a_network_that_is_rewritten_wrongly(site):
    own = (site.bundle / "segmenter.onnx").read_bytes()
    model = onnx.load_model_from_string(own)
    (maker,) = (node for node in model.graph.node if "mask" in node.output)
    maker.output[:] = ["opposite"]
    model.graph.node.extend(
        [
            helper.make_node("Cast", ["opposite"], ["is opposite"], to=TensorProto.BOOL),
            helper.make_node("Not", ["is opposite"], ["is tumor"]),
            helper.make_node("Cast", ["is tumor"], ["mask"], to=TensorProto.UINT8),
        ]
    )
    wrong = model.SerializeToString()
    site.monkeypatch.setattr(
        "her2d.inference.onnxruntime_engine.rewritten",
        lambda graph: wrong if graph == own else None,
    )


# The network


@broken(
    FAILURE,
    "Cannot listen on 127.0.0.1:{port}: Address already in use.",
    "Stop the program that uses it, or change [ops] port.",
)
def a_port_that_another_program_uses(site):
    other = socket.socket()
    other.bind(("127.0.0.1", 0))
    other.listen()
    port = other.getsockname()[1]
    site.set("ops", port=port)
    site.monkeypatch.setattr("her2d.doctor.network._TIMEOUT_S", 0.2)
    site.on_exit.append(other.close)
    return {"port": port}


@broken(
    FAILURE,
    "{where} refuses connections, so no event is sent.",
    "Start the receiver. If it listens elsewhere: correct [webhook] url (HER2D_WEBHOOK__URL).",
)
def a_webhook_that_is_dead(site):
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        where = f"http://127.0.0.1:{gone.getsockname()[1]}"
    site.set("webhook", url=f"{where}/hook")
    return {"where": where}


@broken(
    FAILURE,
    "The name lis.invalid cannot be found (DNS), so no event is sent.",
    "Correct [webhook] url (HER2D_WEBHOOK__URL), or the name server in /etc/resolv.conf.",
    also=["systemd sandbox"],
)
def a_webhook_whose_name_does_not_exist(site):
    site.set("webhook", url="https://lis.invalid/hook")


@broken(
    FAILURE,
    "The certificate of {where} is not trusted: self-signed certificate.",
    "Install a valid certificate there. For an own certificate authority set"
    " SSL_CERT_FILE=/path/to/ca.pem in /etc/her2d/secrets.env.",
)
def a_webhook_with_a_certificate_that_nobody_trusts(site):
    url = run_webhook(site, certificate=self_signed(site.folder))
    site.set("webhook", url=url)
    return {"where": url.removesuffix("/hook")}


@broken(
    WARNING,
    "{where} answers 401 to a request without an event, so it may refuse events.",
    "Check that [webhook] secret and the token in url are those of the receiver.",
)
def a_webhook_that_refuses_the_secret(site):
    url = run_webhook(site, 401)
    site.set("webhook", url=url)
    return {"where": url.removesuffix("/hook")}


@broken(
    WARNING,
    "{where} answers 404 to a request without an event, so the path may be wrong.",
    "Correct [webhook] url (HER2D_WEBHOOK__URL). If the receiver takes only POST requests, no"
    " action is needed.",
)
def a_webhook_with_a_wrong_path(site):
    url = run_webhook(site, 404)
    site.set("webhook", url=url)
    return {"where": url.removesuffix("/hook")}


@broken(
    FAILURE,
    "{where} is gone (410), and her2d sends nothing after that answer.",
    "Correct [webhook] url (HER2D_WEBHOOK__URL), then restart her2d.",
)
def a_webhook_that_is_gone(site):
    url = run_webhook(site, 410)
    site.set("webhook", url=url)
    return {"where": url.removesuffix("/hook")}


@broken(
    FAILURE,
    "her2d.service cannot connect to the webhook at lis.hospital (10.0.0.7).",
    "Run sudo systemctl edit her2d.service and add: [Service] IPAddressAllow=10.0.0.7, or install"
    " the drop-in webhook.conf, which allows private networks (sudo make install-webhook). Then"
    " restart her2d.",
)
def a_webhook_that_the_sandbox_keeps_her2d_from(site):
    _webhook_by_name(site, address="10.0.0.7", name_server="127.0.0.53")


@broken(
    FAILURE,
    "her2d.service cannot ask the name server 10.0.0.53, which finds lis.hospital.",
    "Run sudo systemctl edit her2d.service and add: [Service] IPAddressAllow=10.0.0.53, or install"
    " the drop-in webhook.conf, which allows private networks (sudo make install-webhook). Then"
    " restart her2d.",
)
def a_name_server_that_the_sandbox_keeps_her2d_from(site):
    _webhook_by_name(site, address="10.0.0.7", name_server="10.0.0.53")
    site.drop_in("IPAddressAllow=10.0.0.7")


def _webhook_by_name(site, *, address, name_server):
    """Set a webhook at a name that resolves here, and that answers this process.

    No test can depend on a name server, so the C library's look-up is replaced, and with it the
    request that would go to that address.
    """
    resolv_conf = site.folder / "etc" / "resolv.conf"
    resolv_conf.write_text(f"search hospital\nnameserver {name_server}\n")
    site.monkeypatch.setattr("her2d.doctor.reach.RESOLV_CONF", resolv_conf)
    url = run_webhook(site)
    port = int(url.split(":")[2].partition("/")[0])
    looked_up = socket.getaddrinfo

    def look_up(host, service, *arguments, **options):
        if host not in ("lis.hospital", b"lis.hospital"):
            return looked_up(host, service, *arguments, **options)
        if service is None:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]
        return looked_up("127.0.0.1", service, *arguments, **options)

    site.monkeypatch.setattr(socket, "getaddrinfo", look_up)
    site.set("webhook", url=f"http://lis.hospital:{port}/hook")


# systemd


@broken(
    FAILURE,
    "User {me} cannot enter {closed}, where her2d or its Python is.",
    "Install her2d with an interpreter that all users may run: sudo make install"
    " PYTHON=/usr/bin/python3",
    needs_root,
    also=["user"],
)
def a_python_that_the_service_cannot_read(site):
    closed = site.folder / "root"
    closed.mkdir(mode=0o700)
    site.monkeypatch.setattr("her2d.doctor.units._PROGRAM", (closed / "lib" / "os.py",))
    return {"closed": closed}


@broken(
    WARNING,
    "her2d.service is not installed, so her2d does not start with this machine.",
    "Run sudo make install in a clone of her2d, then sudo systemctl enable --now her2d.service"
    " her2d-care.timer. To only try her2d, no action is needed.",
)
def a_unit_that_is_not_installed(site):
    (site.units / "her2d.service").unlink()
    if IS_ROOT:  # without the unit, doctor does not know which user to check as
        site.monkeypatch.setenv("HER2D_INTAKE__ON_SUCCESS", "leave")


@broken(
    FAILURE,
    "her2d.service is masked, so systemd does not start it.",
    "Run sudo systemctl unmask her2d.service.",
)
def a_unit_that_is_masked(site):
    (site.units / "her2d.service").unlink()
    (site.units / "her2d.service").symlink_to("/dev/null")


@broken(
    WARNING,
    "her2d.service is not enabled, so it does not start after a power cut.",
    "Run sudo systemctl enable --now her2d.service.",
)
def a_unit_that_is_not_enabled(site):
    (site.units / "multi-user.target.wants" / "her2d.service").unlink()


@broken(
    FAILURE,
    "her2d.service has failed.",
    "Run journalctl -u her2d.service -e, whose last lines say why.",
)
def a_unit_that_ends_again_and_again(site):
    site.unit_state("ActiveState=activating", "SubState=auto-restart")


@broken(
    WARNING,
    "The file of her2d.service or a drop-in was changed, and systemd has not read it yet.",
    "Run sudo systemctl daemon-reload, then sudo systemctl restart her2d.service.",
)
def a_unit_that_systemd_has_not_read_again(site):
    site.unit_state("NeedDaemonReload=yes")


@broken(
    WARNING,
    "her2d-care.timer is not enabled, so it does not start after a power cut.",
    "Run sudo systemctl enable --now her2d-care.timer.",
)
def a_timer_that_is_not_enabled(site):
    (site.units / "timers.target.wants" / "her2d-care.timer").unlink()


@broken(
    WARNING,
    "her2d-care.timer is not installed, so no backups are made at night.",
    "Run sudo make install in a clone of her2d, then sudo systemctl enable --now her2d-care.timer.",
)
def a_timer_that_is_not_installed(site):
    (site.units / "her2d-care.timer").unlink()


@broken(
    WARNING,
    "The last run of her2d-care.service failed, so there is no backup of that night.",
    "Run journalctl -u her2d-care.service -e, whose last lines say why.",
)
def a_nightly_run_that_failed(site):
    site.unit_state("ActiveState=failed", unit="her2d-care.service")


@broken(
    FAILURE,
    "her2d.service runs as user nosuchuser, which does not exist.",
    "Run systemd-sysusers her2d.conf to create it.",
)
def a_unit_whose_user_does_not_exist(site):
    site.drop_in("User=nosuchuser")


@broken(
    FAILURE,
    "her2d.service cannot write to {inbox}.",
    "Run sudo systemctl edit her2d.service and add: [Service] ReadWritePaths={inbox}",
)
def a_drop_in_that_forgets_the_inbox(site):
    site.drop_in("ReadWritePaths=", f"ReadWritePaths={site.state} {site.archive}")


@broken(
    FAILURE,
    "her2d.service cannot see {inbox} (InaccessiblePaths).",
    "Remove that path from the drop-in: sudo systemctl edit her2d.service",
)
def a_drop_in_that_hides_the_inbox(site):
    site.drop_in(f"InaccessiblePaths={site.inbox}")


@broken(
    FAILURE,
    "her2d.service may use 8 MiB of memory (MemoryMax), but the bundle alone needs ",
    "Run sudo systemctl edit her2d.service and add: [Service] MemoryMax=",
)
def a_memory_limit_too_small_for_the_bundle(site):
    site.drop_in("MemoryMax=8M")


@broken(
    WARNING,
    "her2d.service may use 8192 MiB of memory (MemoryMax), but the bundle with 64 slides in flight"
    " may need ",
    ", or lower [pipeline] slides_in_flight, decode_workers or queue_tiles.",
    also=["systemd limits"],
)
def a_memory_limit_too_small_for_the_slides_in_flight(site):
    site.set("pipeline", slides_in_flight=64, decode_workers=8)


@broken(
    FAILURE,
    "her2d.service may have 20 threads (TasksMax), but needs at least ",
    "Run sudo systemctl edit her2d.service and add: [Service] TasksMax=",
)
def a_limit_of_threads_too_small(site):
    site.drop_in("TasksMax=20")


@broken(
    WARNING,
    "systemd kills her2d 20s after a stop, but [pipeline] drain_s is 30 s.".replace("20s", "20 s")
    + " Slides may be interrupted, and start again at the next start.",
    "Run sudo systemctl edit her2d.service and add: [Service] TimeoutStopSec=90",
)
def a_stop_shorter_than_the_drain(site):
    site.drop_in("TimeoutStopSec=20")


@broken(
    WARNING,
    "systemd restarts her2d 5 s after its last sign of life (WatchdogSec), which a search of slow"
    " inboxes may outlast.",
    "Run sudo systemctl edit her2d.service and add: [Service] WatchdogSec=120",
)
def a_watchdog_without_patience(site):
    site.drop_in("WatchdogSec=5")


# What an engineer missed at an installation that ran for a year. The other rows take a quarter of a
# second each, and run in the slow tier.
FAST = (
    a_webhook_that_is_dead,
    a_name_server_that_the_sandbox_keeps_her2d_from,
    less_free_space_than_intake_demands,
    a_unit_that_is_not_enabled,
    a_timer_that_is_not_enabled,
    a_memory_limit_too_small_for_the_bundle,
    a_limit_of_threads_too_small,
    nested_inboxes,
    a_stall_limit_shorter_than_the_work,
    a_config_with_a_secret_that_everyone_can_read,
    a_database_of_root,
    scans_that_the_service_cannot_read,
    a_bundle_made_with_another_scikit_learn,
)


def row_of(row: Row) -> object:
    marks = row.marks if row.breaks in FAST else [*row.marks, pytest.mark.slow]
    return pytest.param(row, id=row.breaks.__name__, marks=marks)


def test_the_table_has_the_28_broken_installations_and_more():
    assert len(ROWS) >= 28


@pytest.mark.parametrize("row", [row_of(row) for row in ROWS])
def test_doctor_names_what_is_broken_and_what_to_do(site, row):
    changed = row.breaks(site) or {}
    mode = site.config.stat().st_mode
    site.write_config()
    site.config.chmod(mode)
    code, findings, stderr = site.doctor()
    names = {"me": ME, "config": site.config, "inbox": site.inbox, "archive": site.archive}
    names |= {"database": site.database, "bundle": site.bundle, **changed}
    says, remedy = row.says.format(**names), row.remedy.format(**names)
    problems = [f for f in findings if f["severity"] != "ok"]
    named = [f for f in problems if says in f["message"] and remedy in f["remedy"]]
    assert named, json.dumps(problems, indent=2)
    assert named[0]["severity"] == row.severity
    others = [f for f in problems if f not in named and not f["check"].startswith(row.also or "-")]
    assert others == []
    assert code == (1 if any(f["severity"] == FAILURE for f in problems) else 0)
    assert stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ("max_inotify_watches=2", "Only 2 of 5 folders are watched for events."),
        ("max_inotify_instances=0", "Events are not available: "),
    ],
)
def test_a_limit_of_inotify_watches_that_is_reached_is_named(site, limit, says):
    """The limit is that of a user namespace, so that no other program is concerned."""
    for name in "abcd":
        (site.inbox / name).mkdir()
    site.give(site.folder, user=os.getuid())  # the only user of that namespace
    name, _, number = limit.partition("=")
    command = f"echo {number} > /proc/sys/user/{name} && exec $0 -m her2d doctor --json --config $1"
    write_answers(site.units, UNITS)
    found = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", command, sys.executable, site.config],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare failed" in found.stderr or "Permission denied" in found.stderr:
        pytest.skip(f"user namespaces are not available: {found.stderr}")
    findings = json.loads(found.stdout)["findings"]
    (named,) = [f for f in findings if says in f["message"]]
    assert named["severity"] == WARNING
    assert "write fs.inotify.max_user_watches = 524288" in named["remedy"]
