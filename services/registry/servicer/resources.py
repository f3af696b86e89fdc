"""One servicer for all kinds: the methods of a kind differ in their names and messages alone."""

from __future__ import annotations

import importlib
from collections.abc import MutableSequence
from typing import Any, Final

from libs import identity, masks
from services.registry.model import Resource, id_field
from services.registry.service.cache import Cache
from services.registry.service.resources import Resources
from services.registry.service.room import Room
from services.registry.servicer import translation
from services.registry.servicer.translation import TRANSLATORS, Context, bounded

_PAGE_BYTES: Final = 3 * 1024 * 1024
"""A page ends there; clients take messages of 4 MiB."""
_FRAME: Final = 8
"""Bytes, at most, around a message in a list."""
_CHANGEABLE: Final = ("display_name", "description", "labels", "spec")


class ResourceMethods:
    """The methods that a kind's service may have, by their names without the kind's."""

    def __init__(
        self,
        resources: Resources,
        noun: str,
        plural: str,
        service: str,
        *,
        most_bytes: int,
        cache: Cache | None = None,
    ) -> None:
        self._resources, self._kind, self._cache = resources, resources.kind, cache
        self._most_bytes = most_bytes
        self._noun, self._plural = noun, plural
        self._messages = importlib.import_module(f"dynamicagents.registry.v1.{service}_service_pb2")
        self._translator = TRANSLATORS[self._kind]
        self._id = id_field(self._kind)
        self._many = f"{self._kind}s"

    def to_proto(self, resource: Resource) -> Any:
        return self._translator.to_proto(resource)

    async def create(self, request: Any, context: Context) -> Any:
        made = await self._resources.create(
            identity.current(), self._draft(request), request.request_id, validate_only=request.validate_only
        )
        return self._one(f"Create{self._noun}", made)

    async def get(self, request: Any, context: Context) -> Any:
        caller, resource_id = identity.current(), getattr(request, self._id)

        async def load() -> tuple[Any, int]:
            found = await self._resources.get(caller, resource_id, request.revision)
            reply = self._one(f"Get{self._noun}", found)
            return reply, reply.ByteSize()

        if self._cache is None or request.revision:
            return (await load())[0]
        return await self._cache.get(caller.tenant, (self._kind, resource_id), load)

    async def batch_get(self, request: Any, context: Context) -> Any:
        messages: MutableSequence[Any] = []
        room = self._room(self._most_bytes, messages)
        missing = await self._resources.batch_get(identity.current(), getattr(request, f"{self._id}s"), room)
        fields = {self._many: messages, f"missing_{self._id}s": missing}
        return self._reply(f"BatchGet{self._plural}", **fields)

    async def list(self, request: Any, context: Context) -> Any:
        messages: MutableSequence[Any] = []
        room = self._room(min(_PAGE_BYTES, self._most_bytes * 3 // 4), messages)
        found, token = await self._resources.list(
            identity.current(), request.page_size, request.page_token, request.filter, request.order_by, room
        )
        fields = {self._many: messages[: len(found)], "next_page_token": token}
        return self._reply(f"List{self._plural}", **fields)

    async def update(self, request: Any, context: Context) -> Any:
        paths = masks.paths(request.update_mask, self._translator.message.DESCRIPTOR, _CHANGEABLE)
        message = getattr(request, self._kind)
        paths = [*masks.displaced(paths, message), *paths]
        made = await self._resources.update(
            identity.current(), self._draft(request), paths, message.etag, validate_only=request.validate_only
        )
        return self._one(f"Update{self._noun}", made)

    async def delete(self, request: Any, context: Context) -> Any:
        resource_id = getattr(request, self._id)
        await self._resources.delete(identity.current(), resource_id, request.etag, force=request.force)
        return self._reply(f"Delete{self._noun}")

    async def revisions(self, request: Any, context: Context) -> Any:
        found, token = await self._resources.revisions(
            identity.current(), getattr(request, self._id), request.page_size, request.page_token
        )
        fields = {"revisions": map(translation.revision, found), "next_page_token": token}
        return self._reply(f"List{self._noun}Revisions", **fields)

    async def diff(self, request: Any, context: Context) -> Any:
        found = await self._resources.diff(
            identity.current(), getattr(request, self._id), request.base_revision, request.target_revision
        )
        return self._reply(f"Diff{self._noun}", differences=map(translation.difference, found))

    async def merge(self, request: Any, context: Context) -> Any:
        message = getattr(request, self._kind)
        made, conflicts = await self._resources.merge(
            identity.current(), self._draft(request), request.base_revision, message.etag
        )
        if made is None:
            return self._reply(f"Merge{self._noun}", conflicts=map(translation.conflict, conflicts))
        return self._one(f"Merge{self._noun}", made)

    async def rollback(self, request: Any, context: Context) -> Any:
        made = await self._resources.rollback(
            identity.current(), getattr(request, self._id), request.revision, request.etag
        )
        return self._one(f"Rollback{self._noun}", made)

    def named(self) -> dict[str, Any]:
        """The methods by their names on the wire."""
        return {
            f"Create{self._noun}": self.create,
            f"Get{self._noun}": self.get,
            f"BatchGet{self._plural}": self.batch_get,
            f"List{self._plural}": self.list,
            f"Update{self._noun}": self.update,
            f"Delete{self._noun}": self.delete,
            f"List{self._noun}Revisions": self.revisions,
            f"Diff{self._noun}": self.diff,
            f"Merge{self._noun}": self.merge,
            f"Rollback{self._noun}": self.rollback,
        }

    def _room(self, limit: int, messages: MutableSequence[Any]) -> Room:
        """Room for what goes into `messages` as it is weighed."""

        def weigh(resource: Resource) -> int:
            messages.append(self.to_proto(resource))
            return int(messages[-1].ByteSize()) + _FRAME

        return Room(limit, weigh)

    def _draft(self, request: Any) -> Any:
        return self._translator.draft(getattr(request, self._kind))

    def _one(self, method: str, resource: Resource) -> Any:
        return self._reply(method, **{self._kind: self.to_proto(resource)})

    def _reply(self, method: str, **fields: Any) -> Any:
        return bounded(getattr(self._messages, f"{method}Response")(**fields), self._most_bytes)


def servicer(base: type, methods: ResourceMethods, **more: Any) -> Any:
    """An object that serves the methods of `base`: those of a kind, and `more` by their names on the wire."""
    made = base()
    for name, method in {**methods.named(), **more}.items():
        if hasattr(base, name):
            setattr(made, name, method)
    return made
