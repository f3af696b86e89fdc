"""What the Router needs of others."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from libs.identity import Caller
from services.router.model import (
    ChatCall,
    Chunk,
    Credentials,
    Deployment,
    EmbedCall,
    Embedded,
    Facts,
    RerankCall,
    Reranked,
    RoutingTable,
    TokenCount,
)


class Configurations(Protocol):
    async def table(self, caller: Caller) -> RoutingTable:
        """The newest router configuration of the caller's tenant."""


class Keys(Protocol):
    async def resolve(self, references: Sequence[str], *, refresh: bool = False) -> Sequence[str]:
        """The values, in order; with `refresh` as their keeper has them now, whatever is remembered on the way."""


class Upstream(Protocol):
    """The way to the providers. What it raises for a provider's failure is Failure."""

    def chat(self, deployment: Deployment, credentials: Credentials, call: ChatCall) -> AsyncGenerator[Chunk, None]:
        """The answer in pieces, or in one where `call.stream` is false. Closing it ends the call."""

    async def embed(self, deployment: Deployment, credentials: Credentials, call: EmbedCall) -> Embedded: ...

    async def rerank(self, deployment: Deployment, credentials: Credentials, call: RerankCall) -> Reranked: ...

    async def count_tokens(self, deployment: Deployment, call: ChatCall) -> TokenCount: ...

    async def facts(self, deployment: Deployment) -> Facts:
        """What LiteLLM knows of the model, without the deployment's own figures."""

    async def problem(self, deployment: Deployment) -> str:
        """Why the deployment cannot be called as it is configured; empty where it can."""


class Answers(Protocol):
    """The response cache."""

    async def find(self, caller: Caller, table: RoutingTable, call: ChatCall) -> Chunk | None:
        """The whole answer to an equal call; its answered_by is marked as cached."""

    async def keep(self, caller: Caller, table: RoutingTable, call: ChatCall, whole: Chunk) -> None: ...


class Observer(Protocol):
    """Is told of every attempt, at once and in the loop."""

    def began(self, tenant: str, deployment: Deployment) -> None: ...

    def ended(
        self, tenant: str, deployment: Deployment, seconds: float, first_token: float | None, reason: str | None
    ) -> None:
        """Once for each `began`. Without a reason it has answered; "CANCELLED" where the caller left."""

    def cooling(self, tenant: str, deployment_id: str, until: float) -> None:
        """It takes no call until then, in seconds of the epoch, and one thereafter; 0 when it takes calls again."""


class Shared(Protocol):
    """What the replicas of the Router have in common. Where that cannot be reached each keeps to itself."""

    async def admit(self, tenant: str, wanted: Sequence[tuple[str, int | None, int | None]], tokens: int) -> int | None:
        """Counts a request with the first deployment within its rpm and tpm, in one step, and says which: an index, -1
        for none of them, None where nobody knows. `wanted` has deployment id, rpm and tpm."""

    def used(self, tenant: str, deployment_id: str, tokens: int) -> None: ...

    def cooled(self, tenant: str, deployment_id: str, seconds: float) -> None: ...

    def spent(self, tenant: str, budget: str, amount: float, period: float) -> None: ...
