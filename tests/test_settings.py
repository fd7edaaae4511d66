"""config.toml and HER2D_* -> one frozen tree."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from her2d.settings import Settings, SettingsError, find_config, load_settings

REPOSITORY = Path(__file__).parents[1]


def config(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_the_shipped_config_states_every_default():
    shipped = load_settings(REPOSITORY / "config.toml")
    defaults = Settings()
    for name in Settings.model_fields:
        assert getattr(shipped, name) == getattr(defaults, name).anchored(REPOSITORY)


def test_the_shipped_config_names_every_key():
    text = (REPOSITORY / "config.toml").read_text()
    keys = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    for name in Settings.model_fields:
        assert set(keys[name]) == set(type(getattr(Settings(), name)).model_fields)


def test_a_relative_path_starts_at_the_config_file(tmp_path):
    path = config(tmp_path, '[results]\ndatabase = "data/her2d.sqlite"')
    assert load_settings(path).results.database == tmp_path / "data/her2d.sqlite"


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    path = config(tmp_path, "[pipeline]\nqueue_tiles = 8\nslides_in_flight = 3")
    monkeypatch.setenv("HER2D_PIPELINE__QUEUE_TILES", "16")
    settings = load_settings(path)
    assert (settings.pipeline.queue_tiles, settings.pipeline.slides_in_flight) == (16, 3)


def test_the_environment_alone_is_enough(tmp_path, monkeypatch):
    monkeypatch.setenv("HER2D_INTAKE__INBOXES", '["/scans/a", "/scans/b"]')
    assert load_settings(None).intake.inboxes == (Path("/scans/a"), Path("/scans/b"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[pipeline]\nqueue_tils = 8", "pipeline.queue_tils is not a setting"),
        ("[pipelin]\nqueue_tiles = 8", "pipelin is not a setting"),
        ("[pipeline]\nqueue_tiles = 0", "pipeline.queue_tiles"),
        ('[inference]\nbackend = "magic"', "inference.backend"),
        ('[intake]\nextensions = ["tif"]', "with its dot"),
        ('[intake]\nsidecar = "xml"', "with its dot"),
        ('[intake]\ninboxes = ["done/in"]\narchive = "done"', "must not lie in done"),
        ("[pipeline", "cannot be read"),
    ],
)
def test_a_bad_setting_is_refused_by_name(tmp_path, text, sentence):
    with pytest.raises(SettingsError, match=sentence):
        load_settings(config(tmp_path, text))


def test_a_misspelt_environment_variable_is_refused(monkeypatch):
    monkeypatch.setenv("HER2D_RESULT__DATABASE", "x.sqlite")
    with pytest.raises(SettingsError, match="HER2D_RESULT__DATABASE is not a setting"):
        load_settings(None)


def test_a_missing_config_file_is_an_error(tmp_path):
    with pytest.raises(SettingsError, match="no settings file"):
        load_settings(tmp_path / "absent.toml")


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError):
        load_settings(None).pipeline.queue_tiles = 1


def test_the_config_is_the_one_given_then_named_then_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config() is None
    here = config(tmp_path, "")
    assert find_config() == here.relative_to(tmp_path)
    monkeypatch.setenv("HER2D_CONFIG", "/etc/other.toml")
    assert find_config() == Path("/etc/other.toml")
    assert find_config(Path("mine.toml")) == Path("mine.toml")
