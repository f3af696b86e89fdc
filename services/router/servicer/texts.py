"""Embed, Rerank and CountTokens."""

from __future__ import annotations

from typing import Any

import grpc
from dynamicagents.router.v1 import router_service_pb2

from libs import identity
from services.router.model import EmbedCall, RerankCall
from services.router.service import Router
from services.router.servicer import answers, conversations

Context = grpc.aio.ServicerContext[Any, Any]


class TextMethods:
    _router: Router

    async def Embed(
        self, request: router_service_pb2.EmbedRequest, context: Context
    ) -> router_service_pb2.EmbedResponse:
        options = conversations.call_options(request.options)
        call = EmbedCall(request.model, tuple(request.inputs), request.dimensions, options)
        embedded = await self._router.embed(identity.current(), call)
        return router_service_pb2.EmbedResponse(
            embeddings=[router_service_pb2.Embedding(values=vector) for vector in embedded.vectors],
            usage=answers.usage(embedded.usage) if embedded.usage else None,
            cost_usd=embedded.cost,
            answered_by=answers.answered_by(embedded.answered_by) if embedded.answered_by else None,
        )

    async def Rerank(
        self, request: router_service_pb2.RerankRequest, context: Context
    ) -> router_service_pb2.RerankResponse:
        options = conversations.call_options(request.options)
        call = RerankCall(request.model, request.query, tuple(request.documents), request.top_n, options)
        reranked = await self._router.rerank(identity.current(), call)
        return router_service_pb2.RerankResponse(
            results=[
                router_service_pb2.RerankResult(index=found.index, score=found.score) for found in reranked.results
            ],
            cost_usd=reranked.cost,
            answered_by=answers.answered_by(reranked.answered_by) if reranked.answered_by else None,
        )

    async def CountTokens(
        self, request: router_service_pb2.CountTokensRequest, context: Context
    ) -> router_service_pb2.CountTokensResponse:
        counted = await self._router.count_tokens(identity.current(), conversations.counted_call(request))
        return router_service_pb2.CountTokensResponse(
            tokens=counted.tokens, estimated=counted.estimated, context_window=counted.context_window or 0
        )
