"""Providers with OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import litellm
import orjson
from litellm.llms.groq.chat.transformation import GroqChatConfig
from litellm.llms.openai.chat.gpt_5_transformation import OpenAIGPT5Config
from litellm.llms.openai.chat.gpt_transformation import OpenAIGPTConfig
from litellm.llms.openai_like.chat.transformation import OpenAILikeChatConfig
from litellm.main import responses_api_bridge_check
from yarl import URL

from services.router.gateways.direct.provider import NotDirect, Provider, Request
from services.router.gateways.direct.readers import Log, OpenAIReader, Reader, TranslatedReader
from services.router.gateways.messages import copied, has_media
from services.router.gateways.parameters import NO_KEY
from services.router.model import ChatCall, Credentials


class OpenAICompatible(Provider):
    def __init__(self, model: str, name: str, config: Any, base: str) -> None:
        super().__init__(model, name, config, base)
        self._usage = "stream_options" in config.get_supported_openai_params(model)
        self._bridged = isinstance(config, OpenAIGPT5Config) or _mode(f"{name}/{model}") == "responses"
        self._plain = reads_as_openai(config)

    async def request(self, credentials: Credentials, call: ChatCall) -> Request:
        self._check_bridge(call)
        parameters = self._asked(call)
        if "json_mode" in parameters or parameters.pop("fake_stream", False):
            raise NotDirect
        extra = parameters.pop("extra_body", None)
        messages = copied(call.messages, self.name)
        about = {"custom_llm_provider": self.name, "api_base": self.base}
        arguments = {
            "model": self.model,
            "messages": messages,
            "optional_params": parameters,
            "litellm_params": about,
        }
        headers = self._headers(credentials, arguments)
        body = await self._body(messages, headers, arguments)
        if extra:
            body |= self.config.transform_extra_body(
                extra_body=extra, request=body, model=self.model, litellm_params=about
            )
        if call.stream:
            body["stream"] = True
        else:
            body.pop("stream", None)
        # A copy: the bytes of orjson keep the 4 KiB into which they were written for as long as the stream is open.
        written = bytes(memoryview(orjson.dumps(body)))
        return Request(self._url(call.stream), headers, written, self._reader(arguments, body))

    def _asked(self, call: ChatCall) -> dict[str, Any]:
        more = {"stream_options": {"include_usage": True}} if call.stream and self._usage else {}
        return self.parameters(call, **more)

    def _headers(self, credentials: Credentials, arguments: Mapping[str, Any]) -> dict[str, str]:
        key = credentials.api_key or NO_KEY
        return self.config.validate_environment(  # type: ignore[no-any-return]
            headers={}, api_key=key, api_base=self.base, **arguments
        )

    def _check_bridge(self, call: ChatCall) -> None:
        if self._bridged:
            found, _ = responses_api_bridge_check(
                model=self.model,
                custom_llm_provider=self.name,
                tools=call.tools,
                reasoning_effort=call.settings.get("reasoning_effort"),
                api_base=self.base,
            )
            if found.get("mode") == "responses":
                raise NotDirect

    async def _body(self, messages: Sequence[Any], headers: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if has_media(messages):
            return await self.config.async_transform_request(headers=headers, **arguments)  # type: ignore[no-any-return]
        return self.config.transform_request(headers=headers, **arguments)  # type: ignore[no-any-return]

    def _url(self, stream: bool) -> URL:
        if stream not in self._urls:
            given = {"optional_params": {}, "litellm_params": {}, "stream": stream}
            url = self.config.get_complete_url(api_base=self.base, api_key="", model=self.model, **given)
            self._urls[stream] = URL(url)
        return self._urls[stream]

    def _reader(self, arguments: Mapping[str, Any], body: Mapping[str, Any]) -> Reader:
        if self._plain:
            return OpenAIReader()
        iterator = self.config.get_model_response_iterator(streaming_response=iter(()), sync_stream=True)
        return TranslatedReader(self.config, iterator, {**arguments, "logging_obj": Log(), "request_data": body})


class Azure(OpenAICompatible):
    """OpenAI's API at an address, with a version and headers, of Azure's own."""

    def __init__(self, model: str, name: str, config: Any, base: str, version: str) -> None:
        super().__init__(model, name, config, base)
        self._version = version or litellm.AZURE_DEFAULT_API_VERSION
        self._plain = True

    def _asked(self, call: ChatCall) -> dict[str, Any]:
        more = {"stream_options": {"include_usage": True}} if call.stream else {}
        return self.parameters(call, api_version=self._version, **more)

    def _headers(self, credentials: Credentials, arguments: Mapping[str, Any]) -> dict[str, str]:
        if token := credentials.parameters.get("azure_ad_token"):
            return {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        return {"Content-Type": "application/json", "api-key": credentials.api_key or NO_KEY}

    async def _body(self, messages: Sequence[Any], headers: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return self.config.transform_request(headers=headers, **arguments)  # type: ignore[no-any-return]

    def _url(self, stream: bool) -> URL:
        if stream not in self._urls:
            path = f"{self.base}/openai/deployments/{self.model}/chat/completions"
            self._urls[stream] = URL(path).with_query({"api-version": self._version})
        return self._urls[stream]


def reads_as_openai(config: Any) -> bool:
    kind = type(config)
    whole = kind.transform_response in (OpenAIGPTConfig.transform_response, OpenAILikeChatConfig.transform_response)
    # LiteLLM's own reading of Groq's answers fails where they lack a service tier.
    return isinstance(config, GroqChatConfig) or (
        whole and kind.get_model_response_iterator is OpenAIGPTConfig.get_model_response_iterator
    )


def _mode(model: str) -> str:
    try:
        return str(litellm.get_model_info(model).get("mode"))
    except Exception:
        return ""  # LiteLLM does not know it, and says so in several ways
