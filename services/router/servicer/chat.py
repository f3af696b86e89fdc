"""Chat and ChatStream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from dynamicagents.router.v1 import chat_pb2, router_service_pb2

from libs import identity
from services.router.service import Router
from services.router.servicer import answers, conversations

Context = grpc.aio.ServicerContext[Any, Any]


class ChatMethods:
    _router: Router

    async def Chat(self, request: router_service_pb2.ChatRequest, context: Context) -> router_service_pb2.ChatResponse:
        whole = await self._router.chat(identity.current(), conversations.chat_call(request, stream=False))
        chunk = answers.chunk(whole)
        return router_service_pb2.ChatResponse(
            message=chat_pb2.ChatMessage(role=chat_pb2.ROLE_ASSISTANT, content=chunk.text, tool_calls=chunk.tool_calls),
            reasoning=chunk.reasoning,
            finish_reason=chunk.finish_reason,
            usage=chunk.usage if whole.usage else None,
            cost_usd=whole.cost,
            answered_by=chunk.answered_by,
            citations=chunk.citations,
            logprobs=chunk.logprobs,
            cost_estimated=chunk.cost_estimated,
        )

    async def ChatStream(
        self, request: router_service_pb2.ChatStreamRequest, context: Context
    ) -> AsyncIterator[router_service_pb2.ChatStreamResponse]:
        call = conversations.chat_call(request, stream=True)
        async with aclosing(self._router.chat_stream(identity.current(), call)) as chunks:
            async for chunk in chunks:
                yield router_service_pb2.ChatStreamResponse(chunk=answers.chunk(chunk))
