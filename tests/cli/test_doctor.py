"""`her2d doctor`."""

from her2d.inference.options import BACKENDS


def test_a_sound_laboratory_passes(laboratory):
    found = laboratory.run("doctor")
    assert found.exit_code == 0, found.stdout
    assert "Events arrive." in found.stdout
    assert "0 failures and " in found.stdout or "No problem was found." in found.stdout


def test_every_part_of_the_installation_is_checked(laboratory):
    found = laboratory.json("doctor")["findings"]
    assert {finding["check"] for finding in found} >= {
        *("database", "bundle", "back end", "port", "clock", "systemd sandbox")
    }
    assert [finding for finding in found if finding["severity"] == "failure"] == []


def test_the_checks_leave_no_files(laboratory):
    laboratory.run("doctor")
    assert list(laboratory.inbox.iterdir()) == []
    assert {path.name for path in laboratory.folder.iterdir()} == {"inbox", "config.toml"}


def test_the_bundle_is_read_and_verified_only_once(laboratory, color_bundle, files_hashed):
    laboratory.run("doctor")
    assert files_hashed == [
        color_bundle.segmenter,
        color_bundle.classifiers,
        color_bundle.integrator,
    ]


def test_a_problem_is_reported_with_its_remedy_and_exit_code_one(laboratory):
    laboratory.inbox.rmdir()
    found = laboratory.json("doctor")
    (failure,) = [f for f in found["findings"] if f["severity"] == "failure"]
    assert failure["message"] == "This folder does not exist."
    assert "[intake] inboxes" in failure["remedy"]
    printed = laboratory.run("doctor")
    assert printed.exit_code == 1
    assert printed.stdout.splitlines()[-1].startswith("1 failure and ")


def test_brackets_are_printed_as_they_are(laboratory):
    laboratory.inbox.rmdir()
    assert "[intake]" in laboratory.run("doctor").stdout


def test_every_back_end_is_listed_with_its_reason(laboratory):
    backends = {backend["name"]: backend for backend in laboratory.json("doctor")["backends"]}
    assert tuple(backends) == BACKENDS
    assert backends["onnxruntime"]["usable"]
    assert all(backend["reason"] for backend in backends.values())


def test_on_a_narrow_terminal_nothing_is_cut_off(laboratory, on_a_terminal):
    laboratory.inbox.rmdir()
    printed = on_a_terminal(80, "doctor")
    assert "onnxruntime" in printed
    assert str(laboratory.inbox) in printed
    assert "[intake] inboxes" in printed
    assert "…" not in printed
