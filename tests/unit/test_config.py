from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from libs.config import Settings, StartError
from services.registry.config import RegistrySettings


class OtherSettings(Settings):
    service: ClassVar[str] = "router"
    models: tuple[str, ...] = ()


def write(text: str) -> None:
    Path("dynamic-agents.yaml").write_text(text)


def test_defaults() -> None:
    settings = RegistrySettings.load()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 50051, 1)
    assert settings.database == "sqlite+aiosqlite:///.dynamic-agents/registry.db"
    assert settings.embedded


def test_yaml_for_all_and_for_one() -> None:
    write("log_level: error\ndrain_grace: 3\nregistry:\n  log_level: debug\n  watch_poll: 1.5\nrouter: {anything: 1}\n")
    settings = RegistrySettings.load()
    assert (settings.log_level, settings.drain_grace, settings.watch_poll) == ("debug", 3.0, 1.5)


def test_environment_beats_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    write("log_level: error\nregistry: {watch_poll: 1.5}\n")
    monkeypatch.setenv("DYNAMIC_AGENTS_LOG_LEVEL", "debug")
    monkeypatch.setenv("DYNAMIC_AGENTS_REGISTRY_WATCH_POLL", "2.5")
    settings = RegistrySettings.load()
    assert (settings.log_level, settings.watch_poll) == ("debug", 2.5)


def test_environment_of_one_beats_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMIC_AGENTS_LOG_LEVEL", "debug")
    monkeypatch.setenv("DYNAMIC_AGENTS_REGISTRY_LOG_LEVEL", "error")
    assert RegistrySettings.load().log_level == "error"
    assert OtherSettings.load().log_level == "debug"


@pytest.mark.parametrize("text", ["colour: red\n", "registry: {colour: red}\n", "registry: {colour: red}\nport: 1\n"])
def test_unknown_key_is_named(text: str) -> None:
    write(text)
    with pytest.raises(StartError, match="colour"):
        RegistrySettings.load()


def test_a_setting_of_one_service_is_unknown_for_all() -> None:
    write("watch_poll: 1\n")
    with pytest.raises(StartError, match="watch_poll"):
        RegistrySettings.load()


@pytest.mark.parametrize(
    "text", ["[a, b]", "a: b: c", "registry: 5", "\tx", "key: '"], ids=["list", "nested", "section", "tab", "quote"]
)
def test_what_is_no_settings_file(text: str) -> None:
    write(text)
    with pytest.raises(StartError, match=r"dynamic-agents\.yaml") as caught:
        RegistrySettings.load()
    assert "\n" not in str(caught.value)


def test_file_that_is_not_text() -> None:
    Path("dynamic-agents.yaml").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(StartError, match=r"dynamic-agents\.yaml"):
        RegistrySettings.load()


def test_named_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    monkeypatch.setenv("DYNAMIC_AGENTS_CONFIG", str(path))
    with pytest.raises(StartError, match=r"other\.yaml"):
        RegistrySettings.load()
    path.write_text("log_level: debug")
    assert RegistrySettings.load().log_level == "debug"


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "hunter2"), ("PORT", "70000"), ("LOG_LEVEL", "hunter2"), ("WORKERS", "0"), ("REGISTRY_WATCH_POLL", "-1")],
)
def test_bad_value_names_the_setting_and_not_itself(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"DYNAMIC_AGENTS_{name}", value)
    with pytest.raises(StartError, match=name.removeprefix("REGISTRY_").lower()) as caught:
        RegistrySettings.load()
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_value_that_is_not_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMIC_AGENTS_ROUTER_MODELS", "hunter2")
    with pytest.raises(StartError, match="models") as caught:
        OtherSettings.load()
    assert "hunter2" not in str(caught.value)


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMIC_AGENTS_JWT_SECRET", "hunter2" * 5)
    monkeypatch.setenv("DYNAMIC_AGENTS_DATABASE_URL", "postgresql+asyncpg://me:hunter2@db/x")
    monkeypatch.setenv("DYNAMIC_AGENTS_SERVICE_TOKEN", "hunter2")
    settings = RegistrySettings.load()
    assert settings.database == "postgresql+asyncpg://me:hunter2@db/x"
    assert not settings.embedded
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RegistrySettings.load().port = 1  # type: ignore[misc]
