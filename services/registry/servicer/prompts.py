from __future__ import annotations

from datetime import timedelta
from typing import Any

from dynamicagents.registry.v1 import prompt_service_pb2
from google.protobuf.json_format import MessageToDict

from libs import identity
from services.registry.model import Kind
from services.registry.service.prompts import Feedback, Metrics, Prompts
from services.registry.service.resources import Resources
from services.registry.servicer import translation
from services.registry.servicer.resources import ResourceMethods
from services.registry.servicer.translation import TRANSLATORS, Context


class PromptMethods(ResourceMethods):
    def __init__(self, resources: Resources, prompts: Prompts, *, most_bytes: int) -> None:
        super().__init__(resources, "Prompt", "Prompts", "prompt", most_bytes=most_bytes)
        self._prompts = prompts

    async def render(
        self, request: prompt_service_pb2.RenderPromptRequest, context: Context
    ) -> prompt_service_pb2.RenderPromptResponse:
        rendered = await self._prompts.render(
            identity.current(), request.prompt_id, request.revision, MessageToDict(request.variables)
        )
        return prompt_service_pb2.RenderPromptResponse(text=rendered.text, revision=rendered.revision)

    async def record_feedback(
        self, request: prompt_service_pb2.RecordFeedbackRequest, context: Context
    ) -> prompt_service_pb2.RecordFeedbackResponse:
        feedback = Feedback(
            success=request.success,
            latency=request.latency.ToTimedelta().total_seconds(),
            tokens=request.tokens,
            cost_usd=request.cost_usd,
            failure_pattern=request.failure_pattern,
        )
        metrics = await self._prompts.record_feedback(identity.current(), request.prompt_id, request.revision, feedback)
        return prompt_service_pb2.RecordFeedbackResponse(metrics=_metrics(metrics))

    async def compare(
        self, request: prompt_service_pb2.ComparePromptRequest, context: Context
    ) -> prompt_service_pb2.ComparePromptResponse:
        found = await self._prompts.compare(
            identity.current(), request.prompt_id, request.base_revision, request.target_revision
        )
        prompts = TRANSLATORS[Kind.PROMPT]
        response = prompt_service_pb2.ComparePromptResponse(
            base=prompts.to_proto(found.base),
            base_metrics=_metrics(found.base_metrics),
            target=prompts.to_proto(found.target),
            target_metrics=_metrics(found.target_metrics),
            differences=map(translation.difference, found.differences),
        )
        return translation.bounded(response, self._most_bytes)

    def named(self) -> dict[str, Any]:
        return {
            **super().named(),
            "RenderPrompt": self.render,
            "RecordFeedback": self.record_feedback,
            "ComparePrompt": self.compare,
        }


def _metrics(metrics: Metrics) -> prompt_service_pb2.PromptMetrics:
    return prompt_service_pb2.PromptMetrics(
        uses=metrics.uses,
        success_rate=metrics.success_rate,
        latency=timedelta(seconds=metrics.latency),
        tokens=metrics.tokens,
        cost_usd=metrics.cost_usd,
        failing_patterns=[
            prompt_service_pb2.FailingPattern(pattern=pattern, count=count)
            for pattern, count in metrics.failing_patterns
        ],
    )
