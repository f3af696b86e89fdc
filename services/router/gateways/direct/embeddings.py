"""OpenAI's endpoint for vectors."""

from __future__ import annotations

from typing import Any, Final

import orjson
from yarl import URL

from services.router.gateways import prices
from services.router.gateways.direct import openai
from services.router.gateways.direct.provider import Provider
from services.router.gateways.parameters import NO_KEY
from services.router.model import Credentials, Deployment, EmbedCall, Embedded

_PROVIDERS: Final = frozenset({"openai", "hosted_vllm"})


def speaks(provider: Provider) -> bool:
    return provider.name in _PROVIDERS


def request(provider: Provider, credentials: Credentials, call: EmbedCall) -> tuple[URL, dict[str, str], bytes]:
    body: dict[str, Any] = {"model": provider.model, "input": call.inputs}
    if call.dimensions:
        body["dimensions"] = call.dimensions
    headers = {"Authorization": f"Bearer {credentials.api_key or NO_KEY}", "Content-Type": "application/json"}
    return URL(f"{provider.base}/embeddings"), headers, orjson.dumps(body)


def read(deployment: Deployment, call: EmbedCall, content: bytes) -> Embedded:
    found = orjson.loads(content)
    vectors = [row["embedding"] for row in sorted(found["data"], key=lambda row: row["index"])]
    if len(vectors) != len(call.inputs):
        raise ValueError("another number of vectors than asked for")
    usage = openai.usage(found.get("usage") or {})
    return Embedded(vectors, usage if usage.total_tokens else None, prices.cost(deployment, usage))
