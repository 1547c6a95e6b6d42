"""The providers that need no models file: `openai/…`, `vllm/…`, `embedded/…`, and all that litellm reaches."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from providers.models import BatchSettings, Capabilities, Defaults, Limits, ModelSpec
from providers.prices import Price, known_providers, listed

__all__ = ["EMBEDDED", "KEY_VARIABLES", "OPENAI_URL", "VLLM_URL", "built_in", "suggestions"]

OPENAI_URL = "https://api.openai.com/v1"
VLLM_URL = "http://127.0.0.1:8000/v1"

EMBEDDED: Mapping[str, tuple[str, str]] = {
    "judge": ("0.15", "0.60"),
    "mini": ("0.10", "0.40"),
    "nano": ("0.02", "0.08"),
}
"""Nominal prices (prompt, completion) of the order of small hosted models; what they really cost is processor time."""

KEY_VARIABLES: Mapping[str, str] = {
    "ai21": "AI21_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "azure": "AZURE_API_KEY",
    "azure_ai": "AZURE_AI_API_KEY",
    "cerebras": "CEREBRAS_API_KEY",
    "cohere": "COHERE_API_KEY",
    "cohere_chat": "COHERE_API_KEY",
    "deepinfra": "DEEPINFRA_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "fireworks_ai": "FIREWORKS_AI_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY",
    "hyperbolic": "HYPERBOLIC_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "moonshot": "MOONSHOT_API_KEY",
    "nebius": "NEBIUS_API_KEY",
    "novita": "NOVITA_API_KEY",
    "nvidia_nim": "NVIDIA_NIM_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "perplexity": "PERPLEXITYAI_API_KEY",
    "replicate": "REPLICATE_API_KEY",
    "sambanova": "SAMBANOVA_API_KEY",
    "together_ai": "TOGETHERAI_API_KEY",
    "xai": "XAI_API_KEY",
}
"""Where litellm finds each provider's key; others (bedrock, vertex_ai) have credentials of their own."""

_EVERYTHING = Capabilities(n=True, logprobs=True, top_logprobs=True, stop=True, seed=True, prefix_continuation=True)
_OPENAI = Capabilities(n=True, logprobs=True, top_logprobs=True, stop=True, seed=True)
# The requests of a batch go there with the call that creates it, which may take a while.
_ANTHROPIC_BATCH = BatchSettings(api="anthropic", rows=100_000, bytes=256_000_000, create_s=600)
_FURTHER_PROVIDERS = frozenset({"openrouter", "huggingface"})


def built_in(name: str, env: Mapping[str, str]) -> ModelSpec | None:
    """Return the model behind a `provider/name`, or None where there is no such provider or embedded model."""
    provider, slash, model = name.partition("/")
    if not slash or not model:
        return None
    if provider == "openai":
        return _openai(name, model, env)
    if provider == "vllm":
        url = env.get("VLLM_BASE_URL", VLLM_URL).rstrip("/")
        identity = f"openai/{model}@{url}"
        return ModelSpec(
            name=name, transport="openai", model=model, base_url=url, capabilities=_EVERYTHING, identity=identity
        )
    if provider == "embedded":
        return _embedded(name, model)
    if provider in known_providers() | _FURTHER_PROVIDERS:
        return _litellm(name, provider, model)
    return None


def suggestions(wrong: str) -> tuple[str, ...]:
    """Name what a wrong name may have meant."""
    embedded = tuple(f"embedded/{model}" for model in EMBEDDED)
    _, slash, model = wrong.partition("/")
    if not slash:
        hosted = (f"openai/{wrong}",) if listed("openai", wrong) else ()
        return (*embedded, *hosted)
    return (*embedded, *(f"{known}/{model}" for known in ("openai", "vllm", *KEY_VARIABLES)))


def _openai(name: str, model: str, env: Mapping[str, str]) -> ModelSpec:
    url = env.get("OPENAI_BASE_URL", "").rstrip("/") or None
    if url == OPENAI_URL:
        url = None
    found = listed("openai", model)
    return ModelSpec(
        name=name,
        transport="openai",
        model=model,
        base_url=url,
        api_key_env="OPENAI_API_KEY",
        price=found.price if found else None,
        context=found.context if found else None,
        max_output=found.max_output if found else None,
        capabilities=_OPENAI,
        identity=f"openai/{model}@{url}" if url else f"openai/{model}",
        batch=None if url else BatchSettings(api="openai"),
    )


def _embedded(name: str, model: str) -> ModelSpec | None:
    if model not in EMBEDDED:
        return None
    prompt, completion = EMBEDDED[model]
    return ModelSpec(
        name=name,
        transport="embedded",
        model=model,
        price=Price(prompt=Decimal(prompt), completion=Decimal(completion), nominal=True),
        # The engine batches by itself; a wide window keeps its batch full.
        limits=Limits(in_flight=256, retries=0),
        capabilities=_EVERYTHING,
        defaults=Defaults(temperature=0.8, max_tokens=256),
        style="compact",
        context=1024,
        max_output=1024,
    )


def _litellm(name: str, provider: str, model: str) -> ModelSpec:
    found = listed(provider, model)
    return ModelSpec(
        name=name,
        transport="litellm",
        model=name,
        api_key_env=KEY_VARIABLES.get(provider),
        price=found.price if found else None,
        context=found.context if found else None,
        max_output=found.max_output if found else None,
        capabilities=Capabilities(stop=True),
        identity=f"litellm/{name}",
        batch=_ANTHROPIC_BATCH if provider == "anthropic" else None,
    )
