"""Which deployments are called directly."""

from __future__ import annotations

from typing import Final

import litellm
from litellm.llms.azure.chat.gpt_transformation import AzureOpenAIConfig
from litellm.llms.openai.chat.gpt_transformation import OpenAIGPTConfig
from litellm.llms.openai_like.json_loader import JSONProviderRegistry
from litellm.types.utils import LlmProviders
from litellm.utils import ProviderConfigManager
from yarl import URL

from services.router.gateways.direct.anthropic import Anthropic
from services.router.gateways.direct.compatible import Azure, OpenAICompatible
from services.router.gateways.direct.gemini import Gemini
from services.router.gateways.direct.provider import Provider
from services.router.gateways.parameters import NO_KEY
from services.router.model import Deployment

_OPENAI: Final = "https://api.openai.com/v1"
_ANTHROPIC: Final = "https://api.anthropic.com"
_ALIKE: Final = frozenset(
    {"deepseek", "fireworks_ai", "groq", "hosted_vllm", "mistral", "openrouter", "together_ai", "xai"}
)
"""OpenAI-compatible, though LiteLLM has a way of its own for each."""
_APART: Final = frozenset({"codestral", "clarifai", "github_copilot", "chatgpt"})
_AZURE: Final = frozenset({"api_version", "azure_ad_token"})


def provider(deployment: Deployment) -> Provider | None:
    """How the deployment is called directly; None where LiteLLM must call it."""
    try:
        base = deployment.api_base or None
        model, name, _, base = litellm.get_llm_provider(deployment.model, api_base=base, api_key=NO_KEY)
        config = ProviderConfigManager.get_provider_chat_config(model=model, provider=LlmProviders(name))
    except (litellm.BadRequestError, ValueError):
        return None
    base = (deployment.api_base or base or "").rstrip("/")
    named = {*deployment.provider_parameters, *deployment.credential_references}
    if name == "azure":
        plain = type(config) is AzureOpenAIConfig and named <= _AZURE and base and URL(base).path == "/"
        version = deployment.provider_parameters.get("api_version", "")
        return Azure(model, name, config, base, version) if plain and "v1" not in version else None
    if named:
        return None
    if name == "anthropic":
        return Anthropic(model, name, config, base or _ANTHROPIC)
    if name == "gemini":
        return Gemini(model, name, config, base)
    if name == "openai":
        base = base or _OPENAI
    if base and isinstance(config, OpenAIGPTConfig) and _speaks_openai(name):
        return OpenAICompatible(model, name, config, base)
    return None


def _speaks_openai(name: str) -> bool:
    alike = name in _ALIKE or name == "openai" or name in litellm.openai_compatible_providers
    return (alike or JSONProviderRegistry.exists(name)) and name not in _APART
