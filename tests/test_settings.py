"""Settings from config.toml and HER2D_* variables."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from her2d import __version__
from her2d.settings import PACKAGE_DATA, Settings, SettingsError, find_config, load_settings

REPOSITORY = Path(__file__).parents[1]


def config(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_the_distributed_config_contains_the_default_of_every_key():
    shipped = load_settings(REPOSITORY / "config.toml")
    defaults = Settings()
    for name in Settings.model_fields:
        assert getattr(shipped, name) == getattr(defaults, name).anchored(REPOSITORY)


def test_the_distributed_config_contains_every_key():
    text = (REPOSITORY / "config.toml").read_text()
    keys = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    for name in Settings.model_fields:
        assert set(keys[name]) == set(type(getattr(Settings(), name)).model_fields)


def test_a_relative_path_is_relative_to_the_config_file(tmp_path):
    path = config(tmp_path, '[results]\ndatabase = "data/her2d.sqlite"')
    assert load_settings(path).results.database == tmp_path / "data/her2d.sqlite"


def test_the_packages_demonstration_bundle_is_used_if_there_is_none_beside_the_config_file(
    tmp_path,
):
    path = config(tmp_path, '[bundle]\npath = "engines/her2net-demo"')
    assert load_settings(path).bundle.path == PACKAGE_DATA / "her2net-demo"
    assert (PACKAGE_DATA / "her2net-demo" / "manifest.toml").is_file()
    (tmp_path / "engines" / "her2net-demo").mkdir(parents=True)
    assert load_settings(path).bundle.path == tmp_path / "engines" / "her2net-demo"


def test_the_calibration_is_where_the_settings_say_also_of_the_packages_bundle(tmp_path):
    path = config(tmp_path, '[bundle]\ncalibration = "signed.toml"')
    found = load_settings(path).bundle
    assert (found.path, found.calibration) == (
        PACKAGE_DATA / "her2net-demo",
        tmp_path / "signed.toml",
    )
    assert load_settings(config(tmp_path, "[bundle]")).bundle.calibration is None


def test_a_bundle_with_another_name_is_never_replaced(tmp_path):
    path = config(tmp_path, '[bundle]\npath = "engines/her2net-dem"')
    assert load_settings(path).bundle.path == tmp_path / "engines" / "her2net-dem"


def test_the_environment_takes_precedence_over_the_file(tmp_path, monkeypatch):
    path = config(tmp_path, "[pipeline]\nqueue_tiles = 8\nslides_in_flight = 3")
    monkeypatch.setenv("HER2D_PIPELINE__QUEUE_TILES", "16")
    settings = load_settings(path)
    assert (settings.pipeline.queue_tiles, settings.pipeline.slides_in_flight) == (16, 3)


def test_settings_can_come_from_the_environment_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HER2D_INTAKE__INBOXES", '["/scans/a", "/scans/b"]')
    assert load_settings(None).intake.inboxes == (Path("/scans/a"), Path("/scans/b"))


def test_all_keys_of_a_newer_version_are_named_at_once(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("[intake]\nfuture_key = 3\nsettle_s = 2\n[later]\nother = 1\n")
    with pytest.raises(SettingsError) as refused:
        load_settings(config)
    assert str(refused.value) == (
        f"{config}: intake.future_key, later are not settings of her2d {__version__}."
    )


def test_the_error_about_a_misspelt_variable_suggests_the_nearest_key(monkeypatch):
    monkeypatch.setenv("HER2D_INTAKE__INBOX", '["/mnt"]')
    with pytest.raises(SettingsError, match=r"HER2D_INTAKE__INBOX: .*did you mean intake.inboxes"):
        load_settings(None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[pipeline]\nqueue_tils = 8", "did you mean pipeline.queue_tiles?"),
        ("[pipelin]\nqueue_tiles = 8", "pipelin is not a setting; did you mean .pipeline.?"),
        ('inboxes = ["/mnt"]', "inboxes is not a setting; did you mean intake.inboxes?"),
        ('[results]\ninboxes = ["/mnt"]', "did you mean intake.inboxes?"),
        ("[pipeline]\nxyzzy = 8", r"pipeline.xyzzy is not a setting\.$"),
        ('[intake]\ninboxes = "../inbox"', r'must be a list, such as \["../inbox"\]'),
        ("[intake]\nextensions = 3", r'must be a list, such as \["3"\]'),
        ("[pipeline]\nqueue_tiles = 0", "pipeline.queue_tiles"),
        ('[inference]\nbackend = "magic"', "inference.backend"),
        ('[intake]\nextensions = ["tif"]', "with its dot"),
        ('[intake]\nsidecar = "xml"', "with its dot"),
        ('[intake]\ninboxes = ["done/in"]\narchive = "done"', r"^[^{]*must not lie in done\.$"),
        ('[intake]\npriorities = { "inbox" = 5 }', "priorities.inbox: .*less than or equal to 4"),
        ('[intake]\npriorities = { "old" = 1 }', r"names .*/old, which is not one of the inboxes"),
        ("[pipeline", "cannot be read"),
        ("[intake]\ninboxes = []", "intake.inboxes: must name at least one folder"),
        ("[intake]\nsettle_s = inf", "intake.settle_s: Input should be a finite number"),
        ("[intake]\nmin_free_mb = nan", "intake.min_free_mb: Input should be a finite number"),
        ("[pipeline]\ndrain_s = inf", "pipeline.drain_s: Input should be a finite number"),
        ("[intake]\nassume_magnification = 0", "intake.assume_magnification.*greater than 0"),
        ('[intake]\nassume_magnification = "x"', "intake.assume_magnification.*valid number"),
        ("[intake]\nassume_magnification = [4]", "intake.assume_magnification.*valid number"),
        ('[intake]\nassume_magnification = { "*" = 900 }', "assume_magnification.*less than or"),
        ("[intake]\nsweep_s = 1e12", "intake.sweep_s: Input should be less than or equal"),
        ("[results]\nkeep_tiles_days = 1e7", "results.keep_tiles_days: Input should be less"),
        ("pipeline = 3", r"pipeline must be a section, \[pipeline\], with its keys below"),
        (
            '[cluster]\naddress = "head.example"\n',
            r"cluster.address: must be empty, 'auto', or the head's address, such as"
            r" 'ray://head.example:10001' \(found 'head.example'\)\.$",
        ),
        (
            '[cluster]\naddress = "ray://head.example:70000"\n',
            "cluster.address: must have a port of at most 65535, not 70000",
        ),
        (
            '[cluster]\npaths = { "scans" = "/data" }\n',
            "cluster.paths: must name folders by absolute paths without '..', not 'scans'",
        ),
    ],
)
def test_the_error_about_an_invalid_setting_names_it(tmp_path, text, sentence):
    with pytest.raises(SettingsError, match=sentence):
        load_settings(config(tmp_path, text))


def test_a_misspelt_environment_variable_is_refused(monkeypatch):
    monkeypatch.setenv("HER2D_RESULT__DATABASE", "x.sqlite")
    with pytest.raises(SettingsError, match="HER2D_RESULT__DATABASE is not a setting"):
        load_settings(None)


@pytest.mark.parametrize("text", ["/scans", "[1]", '{"a": "/scans"}', '"/scans"', "[/scans]"])
def test_the_error_about_an_invalid_list_in_a_variable_names_it_and_gives_an_example(
    monkeypatch, text
):
    monkeypatch.setenv("HER2D_INTAKE__INBOXES", text)
    with pytest.raises(
        SettingsError, match=r"HER2D_INTAKE__INBOXES must be a JSON list .*'\[\"inbox\"\]'"
    ):
        load_settings(None)


def test_the_error_about_an_invalid_value_in_the_environment_names_the_variable(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("HER2D_OPS__PORT", "many")
    with pytest.raises(SettingsError, match=r"^HER2D_OPS__PORT: ops.port: .*\(found 'many'\)"):
        load_settings(config(tmp_path, "[ops]\nport = 1"))


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    "text",
    [
        f'webhook = "{SECRET}"',
        f'webhook = ["{SECRET}"]',
        f'[webhook]\nsecret = ["{SECRET}"]',
        f'[webhook]\nsecret = {{ key = "{SECRET}" }}',
        f'[webhook]\nurl = "ftp://user:{SECRET}@lis.example/"',
        f'[webhook]\nurl = ["http://lis.example/?token={SECRET}"]',
        f'[webhook]\nurl = "http://lis.example:port/?token={SECRET}"',
        f'[ops]\npseudonym_key = ["{SECRET}"]',
    ],
)
def test_the_error_about_an_invalid_secret_does_not_show_it(tmp_path, text):
    with pytest.raises(SettingsError) as refused:
        load_settings(config(tmp_path, text))
    assert SECRET not in str(refused.value)
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://lis.example/her2d", "https://lis.example/her2d"),
        ("https://u:pass@lis.example:8443/x?token=abc#d", "https://***@lis.example:8443/x?***#***"),
        ("https://token@[::1]/x", "https://***@[::1]/x"),
        (
            "https://lis.example/pathology-results/her2d",
            "https://lis.example/pathology-results/her2d",
        ),
        (
            "https://hooks.example/services/T02ABCDEF/B03ABCDEF/aZ3kQ9xYb1LmN0pQrStUvWx2",
            "https://hooks.example/services/T02ABCDEF/B03ABCDEF/***",
        ),
    ],
)
def test_a_url_is_shown_without_secrets_and_used_with_them(tmp_path, url, shown):
    settings = load_settings(config(tmp_path, f'[webhook]\nurl = "{url}"'))
    assert settings.model_dump(mode="json")["webhook"]["url"] == shown
    assert str(settings.webhook.url) == url


def test_a_missing_config_file_is_an_error(tmp_path):
    with pytest.raises(SettingsError, match="no settings file"):
        load_settings(tmp_path / "absent.toml")


def test_an_empty_config_file_is_not_taken_for_the_defaults(tmp_path):
    config = tmp_path / "config.toml"
    config.touch()
    with pytest.raises(SettingsError, match=f"^The settings file {config} is empty. Restore it"):
        load_settings(config)
    config.write_text("# the defaults\n")
    assert load_settings(config).intake.settle_s == 10


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError):
        load_settings(None).pipeline.queue_tiles = 1


def test_the_config_path_comes_from_the_argument_then_the_variable_then_the_current_folder(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert find_config() is None
    here = config(tmp_path, "")
    assert find_config() == here.relative_to(tmp_path)
    monkeypatch.setenv("HER2D_CONFIG", "/etc/other.toml")
    assert find_config() == Path("/etc/other.toml")
    assert find_config(Path("mine.toml")) == Path("mine.toml")


def test_parent_references_are_removed_from_paths(tmp_path):
    config = tmp_path / "etc" / "config.toml"
    config.parent.mkdir()
    config.write_text('[intake]\ninboxes = ["../scans"]\narchive = "../scans/archive"')
    intake = load_settings(config).intake
    assert intake.inboxes == (tmp_path / "scans",)
    assert intake.archive == tmp_path / "scans" / "archive"


def test_an_inbox_within_the_archive_is_refused_if_their_paths_are_relative(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(f'[intake]\ninboxes = ["{tmp_path}/old/scans"]\narchive = "old"')
    with pytest.raises(SettingsError, match=r"config.toml: intake: the inbox .* must not lie in"):
        load_settings(config)


ASSUMED = """
[intake]
inboxes = ["a", "b"]
archive = "done"
assume_magnification = { "b/small" = 10, "b" = 20.0, "*.svs" = 40.0, "/mnt/*/c/*.tif" = 4 }
"""


@pytest.mark.parametrize(
    ("file", "magnification"),
    [
        ("a/x.tif", None),
        ("a/x.SVS", 40.0),
        ("b/x.tif", 20.0),
        ("b/x.svs", 20.0),  # the first key counts
        ("b/small/x.tif", 10.0),
        ("bb/x.tif", None),
        ("/mnt/7/c/x.tif", 4.0),
    ],
)
def test_a_magnification_is_assumed_by_folder_and_by_file_name(tmp_path, file, magnification):
    intake = load_settings(config(tmp_path, ASSUMED)).intake
    assert intake.magnification_for(tmp_path / file) == magnification


def test_an_archived_file_has_the_magnification_of_its_inbox(tmp_path):
    intake = load_settings(config(tmp_path, ASSUMED)).intake
    archived = tmp_path / "done" / "small" / "x.tif"
    assert intake.magnification_for(archived, tmp_path / "b") == 10.0
    assert intake.magnification_for(archived, tmp_path / "a") is None
    assert intake.magnification_for(archived) is None


@pytest.mark.parametrize("text", ["20", "20.0", '{"*": 20}'])
def test_a_magnification_can_be_assumed_in_the_environment(monkeypatch, text):
    monkeypatch.setenv("HER2D_INTAKE__ASSUME_MAGNIFICATION", text)
    assert load_settings(None).intake.magnification_for(Path("/a/x.tif")) == 20.0


def test_no_magnification_is_assumed_unless_it_is_set():
    assert load_settings(None).intake.magnification_for(Path("/a/x.tif")) is None


def test_an_extension_of_scans_of_several_files_is_refused_with_the_way_out(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('[intake]\nextensions = [".tif", ".MRXS"]\n')
    with pytest.raises(SettingsError) as refused:
        load_settings(config)
    assert "'.mrxs': such a scan has several files" in str(refused.value)
    assert "`her2d scan`" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[intake]\ninboxes = ["~unknownuser/scans"]', "Could not determine home directory"),
        ('[results]\ndatabase = "~unknownuser/x"', "Could not determine home directory"),
        ('[results]\ndatabase = "a\\u0000b"', "must not contain a null character"),
        ("[intake]\ninboxes = " + "[" * 2000 + "]" * 2000, "nested too deeply"),
        (f"[ops]\nport = {'9' * 5000}", "4300 digits"),
        (f"[ops]\nport = {2**70}", "ops.port"),
        ("[intake]\nsettle_s = 9999-12-31", "intake.settle_s"),
    ],
)
def test_no_file_ends_in_another_error_than_a_sentence(tmp_path, text, says):
    """A reload that meets any other error would leave systemd without an answer."""
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(SettingsError, match=says):
        load_settings(config)
