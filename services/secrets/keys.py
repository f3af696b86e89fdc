"""The vault's master key: where it comes from, and what it seals.

Each sealed text has a data key of its own, which the master key wraps; another master key needs only new wrappings.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from libs.config import StartError
from services.secrets.model import Owner, Sealed, Secret

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


Rewrap = Callable[[Owner, Secret | None, Sealed], Sealed]
"""The same under another master key; no secret is the vault's check."""


class KeyChanged(Exception):
    """The vault has another master key meanwhile."""


class Unreadable(Exception):
    """A sealed text that this key does not open: another key's, another place's, or damaged."""


class MasterKey:
    def __init__(self, key: bytes) -> None:
        self.key_id = _derived(key, "key id").hex()[:16]
        self._wrapping = AESGCM(_derived(key, "wrapping"))
        self._digests = _derived(key, "digests")
        self.audit_key = _derived(key, "audit")

    def seal(self, text: bytes, place: bytes) -> Sealed:
        """`place` says what the text belongs to; it opens nowhere else."""
        data_key = AESGCM.generate_key(KEY_BYTES * 8)
        return Sealed(self.key_id, _encrypt(self._wrapping, data_key, place), _encrypt(AESGCM(data_key), text, place))

    def open(self, sealed: Sealed, place: bytes) -> bytes:
        with suppress(InvalidTag, ValueError):
            data_key = _decrypt(self._wrapping, sealed.wrapped_key, place)
            return _decrypt(AESGCM(data_key), sealed.ciphertext, place)
        raise Unreadable

    def rewrap(self, sealed: Sealed, place: bytes, new: MasterKey) -> Sealed:
        """The same text, which is opened to be sure of it, for another master key."""
        self.open(sealed, place)
        data_key = _decrypt(self._wrapping, sealed.wrapped_key, place)
        return Sealed(new.key_id, _encrypt(new._wrapping, data_key, place), sealed.ciphertext)

    def digest(self, content: bytes) -> str:
        """Tells equal contents apart from others, and without the key nothing more."""
        return hmac.new(self._digests, content, hashlib.sha256).hexdigest()


def load(given: SecretStr | None, path: Path, *, new: bool) -> MasterKey:
    """The key that was given, else the file's; a `new` vault gets a file where there is none."""
    if given is not None:
        return MasterKey(_decoded(given.get_secret_value(), "bad setting vault_key of secrets"))
    try:
        if new and not path.exists():
            make(path)
        mode, text = _read(path)
    except FileNotFoundError:
        raise StartError(f"the key of the vault is missing: restore {path} or set vault_key") from None
    except OSError as error:
        raise StartError(f"cannot use the vault's key file {path}: {error.strerror}") from None
    if mode & ~0o600:
        raise StartError(f"the vault's key file {path} has mode {mode:04o}, others may read it: make it 0600")
    return MasterKey(_decoded(text, f"the vault's key file {path}"))


def successor(path: Path) -> Path:
    """Where a new key waits until the vault is wrapped with it."""
    return path.with_name(f"{path.name}.new")


def reload(path: Path) -> MasterKey:
    """The key after a rotation, be the file in its place already or not."""
    with suppress(StartError):
        return load(None, successor(path), new=False)
    return load(None, path, new=False)


def make(path: Path) -> None:
    """A new key, unless the file exists."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # O_EXCL, 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):  # another process was first: its key is the vault's
            os.link(draft, path)
    finally:
        Path(draft).unlink()


def _read(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        return mode, file.read(1024).decode("ascii", "replace")


def _decoded(text: str, what: str) -> bytes:
    with suppress(binascii.Error, ValueError):
        key = base64.b64decode(text.strip(), validate=True)
        if len(key) == KEY_BYTES:
            return key
    raise StartError(f"{what}: not the base64 of {KEY_BYTES} bytes")


def _derived(key: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"dynamic-agents vault {purpose}".encode()).derive(key)


def _encrypt(cipher: AESGCM, text: bytes, place: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, text, place)


def _decrypt(cipher: AESGCM, sealed: bytes, place: bytes) -> bytes:
    return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
