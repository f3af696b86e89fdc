"""What callers can ask of the Router."""

from __future__ import annotations

import difflib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final, TypeVar

from libs import errors
from libs.identity import Caller
from services.router import model
from services.router.model import (
    Call,
    CallOptions,
    ChatCall,
    Chunk,
    Credentials,
    Deployment,
    EmbedCall,
    Embedded,
    Failure,
    ModelGroup,
    RerankCall,
    Reranked,
    RoutingTable,
    TokenCount,
)
from services.router.service import budgets, estimates, guardrails, selection
from services.router.service.accounts import Accounts
from services.router.service.budgets import Ledger
from services.router.service.course import Course
from services.router.service.driver import Ask, Driver
from services.router.service.explain import Explanation, explain
from services.router.service.models import Models
from services.router.service.places import Places
from services.router.service.ports import Answers, Configurations, Keys, Shared, Upstream
from services.router.service.selection import Wish
from services.router.service.state import DeploymentStates

_KNOWN_LENGTH: Final = 250
_PROBE_SECONDS: Final = 10.0

P = TypeVar("P", Embedded, Reranked)


class Router:
    def __init__(
        self,
        configurations: Configurations,
        keys: Keys,
        upstream: Upstream,
        *,
        offline: bool,
        states: DeploymentStates | None = None,
        ledger: Ledger | None = None,
        shared: Shared | None = None,
        answers: Answers | None = None,
    ) -> None:
        self._configurations, self._upstream, self._offline = configurations, upstream, offline
        self.states = DeploymentStates() if states is None else states
        self.ledger = Ledger() if ledger is None else ledger
        self._answers = answers
        self._places = Places(self.states, self.ledger, upstream, shared)
        self._accounts = Accounts(self.states, self.ledger, shared)
        self._driver = Driver(keys, self._places, self._accounts)
        self._models = Models(upstream, offline=offline)

    async def list_models(self, caller: Caller) -> Sequence[ModelGroup]:
        return await self._models.of(caller.tenant, await self._configurations.table(caller))

    async def chat(self, caller: Caller, call: ChatCall) -> Chunk:
        whole = Chunk()
        async with aclosing(self.chat_stream(caller, call)) as chunks:
            async for chunk in chunks:
                whole += chunk
        return whole

    async def chat_stream(self, caller: Caller, call: ChatCall) -> AsyncGenerator[Chunk, None]:
        table = await self.table(caller, call.model)
        await guardrails.check_input(table, call)
        if table.cache and self._answers and (found := await self._answers.find(caller, table, call)):
            yield found
            return
        course = await self._course(caller, table, call)
        output, whole = guardrails.Output(table), Chunk()
        async with aclosing(self._driver.run(course, self._upstream.chat)) as pieces:
            async for piece in pieces:
                if piece.restarted:
                    output = guardrails.Output(table)
                if table.guardrails:
                    await output.check(piece.text)
                if table.cache and self._answers:
                    whole += piece
                yield piece
        if table.cache and self._answers:
            await self._answers.keep(caller, table, call, whole)

    async def embed(self, caller: Caller, call: EmbedCall) -> Embedded:
        return await self._single(caller, call, self._embed, Embedded)

    async def _embed(
        self, deployment: Deployment, credentials: Credentials, call: EmbedCall
    ) -> AsyncGenerator[Embedded, None]:
        yield await self._upstream.embed(deployment, credentials, call)

    async def rerank(self, caller: Caller, call: RerankCall) -> Reranked:
        return await self._single(caller, call, self._rerank, Reranked)

    async def _rerank(
        self, deployment: Deployment, credentials: Credentials, call: RerankCall
    ) -> AsyncGenerator[Reranked, None]:
        yield await self._upstream.rerank(deployment, credentials, call)

    async def count_tokens(self, caller: Caller, call: ChatCall) -> TokenCount:
        table = await self.table(caller, call.model)
        group = table.groups[table.group_of(call.model)]
        windows = [(await self._upstream.facts(d)).corrected(d).context_window for d in group]
        count = await self._upstream.count_tokens(group[0], call)
        return replace(count, context_window=min((window for window in windows if window), default=None))

    async def explain(self, caller: Caller, call: ChatCall, table: RoutingTable | None) -> Explanation:
        """With a table: what would be if it were the tenant's."""
        in_force = table is None
        if table is None:
            table = await self.table(caller, call.model)
        elif table.group_of(call.model) not in table.groups:
            raise self._unknown(table, call.model)
        group = table.group_of(call.model)
        look = self.states.of if in_force else self.states.peek
        states = [look(caller.tenant, deployment) for deployment in table.groups[group]]
        await self._places.learn(table, states)
        sifted = selection.sift(table, states, await self.wish(table, group, call), self.ledger)
        fallbacks = not call.options.disable_fallbacks
        return explain(table, group, sifted, stream=call.stream, fallbacks=fallbacks)

    async def problems(self, table: RoutingTable) -> Mapping[str, str]:
        """What cannot work as it is configured: by deployment id, or name of the guardrail."""
        found = {d.deployment_id: await self._upstream.problem(d) for d in table.deployments()}
        found |= {g.name: "is not installed" for g in table.guardrails if not guardrails.known(g.kind)}
        return {name: problem for name, problem in found.items() if problem}

    async def probe(self, caller: Caller, deployment: Deployment) -> None:
        """One token of exactly this deployment, or the vector of one word. Observers are told how it went."""
        table, mode = await self._configurations.table(caller), (await self._upstream.facts(deployment)).mode
        if mode not in ("chat", "embedding"):
            return
        options, group = CallOptions(timeout=_PROBE_SECONDS), deployment.model_group
        messages = [{"role": "user", "content": "Hi"}]
        call: Call = ChatCall(group, messages, settings={"max_tokens": 1}, options=options)
        ask: Ask = self._upstream.chat
        if mode == "embedding":
            call, ask = EmbedCall(group, ["Hi"], options=options), self._embed
        course = Course(caller, table, group, call, Wish(), ())
        state = self.states.of(caller.tenant, deployment)
        await self._places.learn(table, [state])
        seat = self.states.begin(state)
        try:
            async with aclosing(self._driver.attempt(course, seat, call, ask)) as pieces:
                async for piece in pieces:
                    self._accounts.answered(course, seat, piece)
        except Failure as failure:
            self._accounts.failed(course, seat, failure)
        finally:
            seat.leave()

    async def table(self, caller: Caller, name: str) -> RoutingTable:
        """The table that serves the group of this name."""
        if self._offline and name == model.OFFLINE_GROUP:
            return model.OFFLINE
        table = await self._configurations.table(caller)
        if table.group_of(name) not in table.groups:
            raise self._unknown(table, name)
        return table

    def _unknown(self, table: RoutingTable, name: str) -> errors.Error:
        known = sorted([*table.groups, *table.aliases, *(model.OFFLINE.groups if self._offline else ())])
        near = difflib.get_close_matches(name, known, 3)
        return errors.NotFound(
            "model_group",
            name,
            message=f"no model group {name!r}" + (f"; near: {', '.join(near)}" if near else ""),
            reason="MODEL_GROUP_UNKNOWN",
            metadata={"model_group": name, "known": _listed(known)},
        )

    async def _single(self, caller: Caller, call: EmbedCall | RerankCall, ask: Ask, kind: type[P]) -> P:
        table = await self.table(caller, call.model)
        await guardrails.check_input(table, call)
        course = await self._course(caller, table, call)
        async with aclosing(self._driver.run(course, ask)) as pieces:
            async for piece in pieces:
                if isinstance(piece, kind):
                    return piece
        raise errors.Internal("nothing was answered")

    async def _course(self, caller: Caller, table: RoutingTable, call: Call) -> Course:
        spendable = budgets.of_call(table, caller, call.options.tags) if table.budgets else []
        if exceeded := self.ledger.exceeded(caller.tenant, spendable):
            raise budgets.spent_error(self.ledger, caller.tenant, exceeded)
        group = table.group_of(call.model)
        return Course(caller, table, group, call, await self.wish(table, group, call), spendable)

    async def wish(self, table: RoutingTable, group: str, call: Call) -> Wish:
        stream = isinstance(call, ChatCall) and call.stream
        needs = call.needs if isinstance(call, ChatCall) else ()
        wish = Wish(call.options.tags, needs, 0, stream)
        if table.pre_call_checks or any(d.tpm is not None for d in table.groups[group]):
            wish.tokens = estimates.tokens(call)
        if table.pre_call_checks and isinstance(call, ChatCall):
            deployments = table.groups[group]
            windows = [(await self._upstream.facts(d)).corrected(d).context_window for d in deployments]
            shortest = min((window for window in windows if window), default=None)
            if shortest is not None and estimates.most_tokens(call) > shortest:
                wish.tokens = (await self._upstream.count_tokens(deployments[0], call)).tokens
        return wish


def _listed(names: Sequence[str]) -> str:
    """As many names as fit into an error's details."""
    text = ",".join(names)
    return text if len(text) <= _KNOWN_LENGTH else text[:_KNOWN_LENGTH].rpartition(",")[0]
