"""Another master key for the vault, whether or not the service runs."""

from __future__ import annotations

from pydantic import SecretStr

from libs import database
from services.secrets import keys
from services.secrets.app import KEY_FILE, MIGRATIONS, unlocked
from services.secrets.config import SecretsSettings


async def rotate(settings: SecretsSettings, new: SecretStr | None) -> tuple[str, int]:
    """The new key's id, and how many versions were wrapped anew. Without `new` the key file is replaced.

    The new key is on the disk before the database has it, so that a crash in between loses neither.
    """
    path = settings.data_dir / KEY_FILE
    async with database.opened(settings, MIGRATIONS) as db:
        vault = await unlocked(settings, db)
        if new is not None:
            key = keys.load(new, path, new=False)
            return key.key_id, await vault.rotate(key)
        waiting = keys.successor(path)
        waiting.unlink(missing_ok=True)  # of a rotation that did not come to the database
        keys.make(waiting)
        key = keys.load(None, waiting, new=False)
        count = await vault.rotate(key)
        waiting.replace(path)
        return key.key_id, count
