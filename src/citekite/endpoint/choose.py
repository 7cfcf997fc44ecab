"""Which endpoint and which model the settings name for a purpose, and one object for each endpoint."""

from __future__ import annotations

import threading

from citekite.endpoint.client import Endpoint
from citekite.endpoint.faults import model_setting
from citekite.endpoint.traffic import TrafficState
from citekite.errors import SettingsError
from citekite.explanation import Purpose
from citekite.providers import PROVIDERS
from citekite.settings import Settings


class Endpoints:
    """The endpoints that one process talks to; safe to use from many threads.

    What is learned of an endpoint (how many requests it takes, that it is down) holds for whoever shares this object.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Endpoint] = {}
        self._lock = threading.Lock()

    def get(self, settings: Settings, purpose: Purpose) -> Endpoint:
        """The endpoint that the settings name; `SettingsError` where there is none, or no key."""
        made = endpoint_for(settings, purpose)
        with self._lock:
            return self._made.setdefault(made.identity, made)

    def states(self) -> list[TrafficState]:
        """How it stands with each model that was asked, sorted by address and name."""
        with self._lock:
            made = list(self._made.values())
        return sorted((state for one in made for state in one.states()), key=lambda state: (state.address, state.model))


def endpoint_for(settings: Settings, purpose: Purpose) -> Endpoint:
    """The endpoint that the settings name for the purpose; `SettingsError` where there is none, or no key."""
    provider = PROVIDERS[settings.provider] if settings.provider else None
    own_url, own_key, own_name = {
        "chat": (None, None, None),
        "embedding": (settings.embedding_base_url, settings.embedding_api_key, "CITEKITE_EMBEDDING_API_KEY"),
        "rerank": (settings.rerank_base_url, settings.rerank_api_key, "CITEKITE_RERANK_API_KEY"),
    }[purpose]
    url = own_url or settings.base_url or (provider and provider.base_url)
    if not url:
        raise SettingsError(
            "no model endpoint is set: set FIREWORKS_API_KEY or OPENAI_API_KEY, `provider` (--provider, "
            "CITEKITE_PROVIDER) or `base_url` (--base-url, CITEKITE_BASE_URL)"
        )
    key = own_key or settings.api_key
    if key is None and provider and provider.needs_key and url == provider.base_url:
        raise SettingsError(f"provider {provider.name!r} needs a key: set {provider.key_variable} to it")
    names = (provider.key_variable if provider else None, "CITEKITE_API_KEY", own_name)
    return Endpoint(
        url,
        key or "",
        timeout=settings.timeout,
        retry_seconds=settings.retry_seconds,
        connections=settings.concurrency,
        # What a sync and a server send at the most: nobody waits before the endpoint has complained.
        most_at_once=settings.concurrency + settings.max_streams,
        key_names=" or ".join(name for name in names if name),
    )


def model_for(settings: Settings, purpose: Purpose, endpoint: Endpoint) -> str:
    """The model that the settings name for the purpose, else the preset's; `SettingsError` lists what there is."""
    provider = PROVIDERS[settings.provider] if settings.provider else None
    setting, model, default = {
        "chat": ("model", settings.model, provider and provider.model),
        "embedding": ("embedding_model", settings.embedding_model, provider and provider.embedding_model),
        # another vendor's address has another vendor's rerankers
        "rerank": (
            "rerank_model",
            settings.rerank_model,
            provider and not settings.rerank_base_url and provider.rerank_model,
        ),
    }[purpose]
    if name := model or default:
        return name
    raise SettingsError(
        f"no {purpose} model is set for the endpoint {endpoint.address}. "
        f"{model_setting(setting, '', endpoint.listed_models())}"
    )
