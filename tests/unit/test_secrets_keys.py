from __future__ import annotations

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from libs.config import StartError
from services.secrets import keys
from services.secrets.keys import MasterKey, Unreadable


def test_sealed_text_opens_in_its_place_alone() -> None:
    key = MasterKey(os.urandom(32))
    sealed = key.seal(b"text", b"here")
    assert key.open(sealed, b"here") == b"text"
    with pytest.raises(Unreadable):
        key.open(sealed, b"there")
    with pytest.raises(Unreadable):
        MasterKey(os.urandom(32)).open(sealed, b"here")


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 64])
def test_damaged_text(damage: bytes) -> None:
    key = MasterKey(os.urandom(32))
    sealed = key.seal(b"text", b"here")
    for damaged in (replace(sealed, ciphertext=damage), replace(sealed, wrapped_key=damage)):
        with pytest.raises(Unreadable):
            key.open(damaged, b"here")


def test_each_text_has_its_own_data_key() -> None:
    key = MasterKey(os.urandom(32))
    first, second = key.seal(b"text", b"here"), key.seal(b"text", b"here")
    with pytest.raises(Unreadable):
        key.open(replace(first, wrapped_key=second.wrapped_key), b"here")


def test_digest_needs_the_key() -> None:
    key = os.urandom(32)
    assert MasterKey(key).digest(b"text") == MasterKey(key).digest(b"text") != MasterKey(key).digest(b"other")
    assert MasterKey(key).digest(b"text") != MasterKey(os.urandom(32)).digest(b"text")


def test_key_file_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "data" / "vault.key"
    made = keys.load(None, path, new=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(base64.b64decode(path.read_bytes())) == 32
    assert keys.load(None, path, new=True).key_id == keys.load(None, path, new=False).key_id == made.key_id
    assert [file.name for file in path.parent.iterdir()] == ["vault.key"]


def test_processes_that_start_together_share_the_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(keys.load, None, tmp_path / "vault.key", new=True) for _ in range(32)]
    assert len({each.result().key_id for each in made}) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o700, 0o666])
def test_loose_key_file(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "vault.key"
    keys.load(None, path, new=True)
    path.chmod(mode)
    with pytest.raises(StartError, match=f"{mode:04o}"):
        keys.load(None, path, new=False)


@pytest.mark.parametrize("text", [b"", b"short", base64.b64encode(b"x" * 31), b"\xff" * 44, b"#" * 44])
def test_malformed_key_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "vault.key"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(StartError, match=r"vault\.key"):
        keys.load(None, path, new=True)
    assert path.read_bytes() == text


def test_unusable_key_file(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot use"):
        keys.load(None, tmp_path, new=True)


def test_no_key_for_a_vault_that_has_data(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="missing"):
        keys.load(None, tmp_path / "vault.key", new=False)
    assert list(tmp_path.iterdir()) == []


def test_key_of_the_setting(tmp_path: Path) -> None:
    given = SecretStr(base64.b64encode(os.urandom(32)).decode())
    keys.load(given, tmp_path / "vault.key", new=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StartError) as caught:
        keys.load(SecretStr("not-a-key"), tmp_path / "vault.key", new=True)
    assert "not-a-key" not in str(caught.value)
