"""References to values, each answered by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby

import structlog

from libs import errors
from libs.identity import Caller
from services.secrets.model import Owner, Scope, Secret, Value
from services.secrets.references import (
    VARIABLES,
    Environment,
    EnvironmentReference,
    Failure,
    Resolution,
    SecretReference,
    parse,
)
from services.secrets.service import access
from services.secrets.service.access import VALUES
from services.secrets.service.audit import Record, Trail
from services.secrets.service.backend import Memory
from services.secrets.service.cache import Hit

log = structlog.get_logger()
Answers = dict[SecretReference, Resolution]


class Resolver:
    def __init__(
        self,
        memory: Memory,
        environment: Environment,
        trail: Trail,
        *,
        preferred: Mapping[str, str] | None = None,
        readers: Collection[str] | None = None,
    ) -> None:
        self._memory, self._environment, self._trail = memory, environment, trail
        self._preferred, self._readers = preferred or {}, readers

    async def resolve(
        self, caller: Caller, references: Sequence[str], *, refresh: bool = False
    ) -> Sequence[Resolution]:
        """In the order of the references."""
        is_reader = access.may_read(caller, self._readers)
        if not is_reader or not access.allows_any(caller, VALUES):
            await self._trail.write([self._trail.record(caller, "resolve", "deny")])
            raise access.missing(VALUES) if is_reader else access.no_reader()
        answered: dict[str, Resolution] = {}
        wanted: dict[str, SecretReference] = {}
        for text in references:
            match parse(text):
                case None:
                    answered[text] = Resolution(Failure.MALFORMED)
                case EnvironmentReference(name):
                    found = self._read(caller, name)
                    if found is Failure.NOT_FOUND and name in VARIABLES:
                        wanted[text] = VARIABLES[name]
                    else:
                        answered[text] = Resolution(found)
                case SecretReference() as reference:
                    wanted[text] = reference
        answers = await self._answers(caller, set(wanted.values()), refresh=refresh)
        for text, reference in wanted.items():
            answered[text] = answers[reference]
        await self._trail.write(
            self._record(caller, wanted.get(text), answered[text]) for text in dict.fromkeys(references)
        )
        return [answered[text] for text in references]

    def _read(self, caller: Caller, name: str) -> Value | Failure:
        """USER_... names what is the subject's own, which no environment is."""
        stands_for = VARIABLES.get(name)
        if stands_for and stands_for.scope is Scope.USER:
            return Failure.NOT_FOUND
        if not access.allows(caller, VALUES, stands_for.provider if stands_for else ""):
            return Failure.DENIED
        return self._environment.get(caller.tenant, name)

    async def _answers(self, caller: Caller, wanted: set[SecretReference], *, refresh: bool) -> Answers:
        """Each provider is asked once, whatever the number of its fields."""

        def place(reference: SecretReference) -> tuple[str, str]:
            return reference.scope.name, reference.provider

        if len(wanted) == 1:
            return await self._answer(caller, list(wanted), refresh=refresh)
        groups = [list(group) for _, group in groupby(sorted(wanted, key=place), key=place)]
        found = await asyncio.gather(*(self._answer(caller, group, refresh=refresh) for group in groups))
        return {reference: resolution for each in found for reference, resolution in each.items()}

    async def _answer(self, caller: Caller, wanted: Sequence[SecretReference], *, refresh: bool) -> Answers:
        provider, scope = wanted[0].provider, wanted[0].scope
        if not access.allows(caller, VALUES, provider):
            return _all(wanted, Failure.DENIED)
        owner = access.user(caller) if scope is Scope.USER else access.system(caller)
        try:
            await self._memory.admit(owner)
            inventory = await self._memory.inventory(owner, provider, refresh=refresh)
        except errors.NotFound:
            return _all(wanted, Failure.NOT_FOUND)
        except errors.PermissionDenied:
            return _all(wanted, Failure.DENIED)
        except errors.Error as error:
            _log_failure(caller, provider, error)
            return _all(wanted, Failure.UNAVAILABLE)
        ranked = sorted(inventory.value, key=lambda secret: secret.rank(self._preferred), reverse=True)
        answers: Answers = {}
        for reference in wanted:
            answers[reference] = await self._field(caller, owner, reference, ranked, inventory, refresh=refresh)
            refresh = False  # once is enough for all of its fields
        return answers

    async def _field(
        self,
        caller: Caller,
        owner: Owner,
        reference: SecretReference,
        ranked: Sequence[Secret],
        inventory: Hit[tuple[Secret, ...]],
        *,
        refresh: bool,
    ) -> Resolution:
        """As the first in rank has it. A secret that cannot be read hides those behind it: they are stale."""
        for secret in ranked:
            if not secret.may_have(reference.field) or not secret.is_named(reference.name):
                continue
            try:
                hit = await self._memory.values(owner, secret, refresh=refresh)
            except errors.NotFound:
                continue
            except errors.PermissionDenied:
                return Resolution(Failure.DENIED, secret.secret_id)
            except errors.Error as error:
                _log_failure(caller, reference.provider, error)
                return Resolution(Failure.UNAVAILABLE, secret.secret_id)
            if value := hit.value.values.get(reference.field):
                return Resolution(
                    value,
                    secret.secret_id,
                    hit.value.version,
                    max(hit.age, inventory.age),
                    hit.stale or inventory.stale,
                    hit.cached and inventory.cached,
                )
        return Resolution(Failure.NOT_FOUND)

    def _record(self, caller: Caller, reference: SecretReference | None, resolution: Resolution) -> Record:
        match resolution.outcome:
            case Value():
                outcome = "stale" if resolution.stale else "hit" if resolution.cached else "miss"
            case Failure.DENIED:
                outcome = "deny"
            case failure:
                outcome = failure.name.lower()
        return self._trail.record(
            caller,
            "resolve",
            outcome,
            scope=reference.scope if reference else Scope.SYSTEM,
            provider=reference.provider if reference else "",
            field=reference.field if reference else "",
            secret_id=resolution.secret_id,
            version=resolution.version,
            value=resolution.outcome if isinstance(resolution.outcome, Value) else None,
        )


def _all(wanted: Sequence[SecretReference], failure: Failure) -> Answers:
    return {reference: Resolution(failure) for reference in wanted}


def _log_failure(caller: Caller, provider: str, error: errors.Error) -> None:
    log.warning("unresolved", tenant=caller.tenant, provider=provider, reason=error.reason_code, what=error.message)
