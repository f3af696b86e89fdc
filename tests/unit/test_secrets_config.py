from __future__ import annotations

import re
from pathlib import Path

import pytest

from libs.config import Settings, StartError
from services.secrets.app import app
from services.secrets.config import SecretsSettings


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMIC_AGENTS_A8N_URL", "https://a8n.example/identity")
    monkeypatch.setenv("DYNAMIC_AGENTS_A8N_TOKEN", "token-of-a8n")
    monkeypatch.setenv("DYNAMIC_AGENTS_VAULT_KEY", "key-of-all")
    monkeypatch.setenv("DYNAMIC_AGENTS_SECRETS_VAULT_KEY", "key-of-secrets")
    monkeypatch.setenv("DYNAMIC_AGENTS_SECRETS_ENVIRONMENT_NAMES", "OPENAI_*, GROQ_API_KEY")
    settings = SecretsSettings.load()
    assert str(settings.a8n_url) == "https://a8n.example/identity"
    assert settings.environment_names == ("OPENAI_*", "GROQ_API_KEY")
    assert settings.vault_key
    assert settings.vault_key.get_secret_value() == "key-of-secrets"
    assert not {"token-of-a8n", "key-of-secrets"} & set(repr(settings).split("'"))


@pytest.mark.parametrize(
    "bad",
    [
        {"a8n_url": "ftp://a8n.example"},
        {"a8n_token": ""},
        {"a8n_token": "token\n"},
        {"a8n_timeout": 0},
        {"a8n_retries": -1},
    ],
)
def test_bad_setting_is_named(bad: dict[str, object]) -> None:
    with pytest.raises(StartError) as caught:
        SecretsSettings.load(**bad)
    assert next(iter(bad)) in str(caught.value)
    assert "token\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "missing"),
    [({"a8n_url": "http://127.0.0.1:1"}, "a8n_token"), ({"a8n_token": "token"}, "a8n_url")],
)
async def test_half_of_a8n(given: dict[str, object], missing: str) -> None:
    with pytest.raises(StartError, match=f"setting {missing} of secrets is missing"):
        async with app(SecretsSettings.load(port=0, **given), None):
            pass


def test_page_has_every_setting() -> None:
    page = (Path(__file__).parents[2] / "docs" / "secrets.md").read_text()
    own = set(SecretsSettings.model_fields) - set(Settings.model_fields) | {"port"}
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == own


async def test_token_and_file_exclude_each_other(tmp_path: Path) -> None:
    settings = SecretsSettings.load(port=0, a8n_url="http://127.0.0.1:1", a8n_token="x", a8n_token_file=tmp_path / "t")
    with pytest.raises(StartError, match="exclude each other"):
        async with app(settings, None):
            pass


def test_preferred_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMIC_AGENTS_SECRETS_PREFER_LABELS", "environment=production, tier = one=1")
    assert SecretsSettings.load().prefer_labels == (("environment", "production"), ("tier", "one=1"))
    with pytest.raises(StartError, match="prefer_labels"):
        SecretsSettings.load(prefer_labels="nonsense")
