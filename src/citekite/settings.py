"""Settings: arguments > environment > citekite.toml > defaults, each with its origin.

pydantic checks the values; reading the sources is ours because an unknown `CITEKITE_*` variable has to be an error and
`citekite config` has to say where each value came from.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from citekite.errors import SettingsError
from citekite.providers import PROVIDERS
from citekite.types import Fusion, Mode, QueryExpansion

Consistency = Literal["Strong", "Session", "Bounded", "Eventually"]
EmbedderKind = Literal["static", "api", "sentence-transformers"]
SplitterKind = Literal["sections", "separator"]
EngineKind = Literal["local", "ray"]
RerankerKind = Literal["none", "api", "sentence-transformers"]

COLLECTION_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,199}$"
CONFIG_FILE = "citekite.toml"
PREFIX = "CITEKITE_"

# What parts the values of a list in an environment variable: paths as the system does it, addresses by commas.
SEPARATORS = {
    "include": os.pathsep,
    "exclude": os.pathsep,
    "fallback_models": ",",
    "allowed_hosts": ",",
    "cors_origins": ",",
}

# Variables that other tools already use for the same thing; a CITEKITE_ variable wins over them.
SHARED_VARIABLES = {
    "uri": "MILVUS_URI",
    "token": "MILVUS_TOKEN",
}


class Settings(BaseModel):
    """Every setting with its default; the field names are the flags, the TOML keys and (upper case) the variables."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Store
    uri: str = Field("./citekite.db", min_length=1)
    token: SecretStr | None = None
    database: str = Field("default", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,254}$")
    collection: str = Field("citekite", pattern=COLLECTION_NAME)
    consistency: Consistency = "Session"
    source_token: SecretStr | None = None
    source_database: str = Field("default", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,254}$")
    store_seconds: float = Field(60, ge=0)
    bulk_storage: str | None = Field(None, pattern=r"^[a-z][a-z0-9]*://.")
    bulk_rows: int = Field(100_000, ge=1)

    # Load
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    text_column: str | None = None
    max_file_mb: float = Field(50, gt=0)
    max_archive_mb: float = Field(1000, gt=0)
    parse_seconds: float = Field(120, gt=0)
    allow_private_urls: bool = False
    engine: EngineKind = "local"
    ray_address: str | None = Field(None, min_length=1)

    # Split
    splitter: SplitterKind = "sections"
    separator: str = Field("# ", min_length=1)
    chunk_characters: int = Field(1600, ge=200, le=8000)

    # Models
    provider: Literal["fireworks", "openai", "ollama"] | None = None
    base_url: str | None = Field(None, pattern=r"^https?://")
    api_key: SecretStr | None = None
    model: str | None = Field(None, min_length=1)
    fallback_models: tuple[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)], ...] = ()
    max_tokens: int = Field(1024, ge=1)
    temperature: float = Field(0.0, ge=0, le=2)
    timeout: float = Field(60, gt=0)
    retry_seconds: float = Field(120, ge=0)

    # Embed
    embedder: EmbedderKind | None = None
    embedding_model: str | None = Field(None, min_length=1)
    embedding_base_url: str | None = Field(None, pattern=r"^https?://")
    embedding_api_key: SecretStr | None = None
    dimensions: int | None = Field(None, ge=1, le=32768)
    document_prefix: str | None = None
    query_prefix: str | None = None
    concurrency: int = Field(16, ge=1, le=256)
    batch_size: int = Field(256, ge=1, le=2048)
    embedding_price: float | None = Field(None, ge=0)
    contextual: bool | None = None

    # Retrieve
    mode: Mode = "hybrid"
    k: int | None = Field(None, ge=1, le=1000)
    fusion: Fusion = "convex"
    lexical_weight: float | None = Field(None, ge=0, le=1)
    query_expansion: QueryExpansion = "none"
    reranker: RerankerKind = "none"
    rerank_model: str | None = Field(None, min_length=1)
    rerank_base_url: str | None = Field(None, pattern=r"^https?://")
    rerank_api_key: SecretStr | None = None
    rerank_depth: int = Field(30, ge=1, le=1000)
    rerank_price: float | None = Field(None, ge=0)

    # Answer
    context_tokens: int = Field(6000, ge=100)
    abstain_threshold: float | None = Field(None, ge=0, le=1)
    verify: Literal["overlap", "model"] = "overlap"
    prompt_price: float | None = Field(None, ge=0)
    completion_price: float | None = Field(None, ge=0)
    deep_rounds: int = Field(3, ge=1, le=20)
    deep_tokens: int = Field(60_000, ge=1000)
    deep_seconds: float = Field(120, gt=0)

    # Serve
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8080, ge=0, le=65535)
    data_dir: str | None = Field(None, min_length=1)
    max_streams: int = Field(128, ge=1, le=10_000)
    max_upload_mb: float = Field(100, gt=0)
    requests_per_minute: int = Field(600, ge=1)
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    mcp_sync: bool = False

    # Watch
    telemetry: bool = False
    telemetry_content: bool = False
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # A citekite server to go through
    server: str | None = Field(None, pattern=r"^https?://")
    key: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings together with the origin of each value, keyed by field name."""

    settings: Settings
    origins: Mapping[str, str]


def load_settings(
    arguments: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Loaded:
    """The effective settings; raises `SettingsError` naming key, value, place and what is allowed.

    `arguments` are keyed by field name; None counts as not given. `environ` and `directory` (where `citekite.toml` is
    looked for) default to the process's own.
    """
    environ = os.environ if environ is None else environ
    config = (Path.cwd() if directory is None else directory) / CONFIG_FILE
    layers = [
        *_toml_layer(config),
        *_shared_layer(environ),
        *_environment_layer(environ),
        *((key, value, "argument") for key, value in (arguments or {}).items() if value is not None),
    ]
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for key, value, origin in layers:
        if key not in Settings.model_fields:
            raise SettingsError(_unknown(key, origin))
        values[key], origins[key] = value, origin
    _choose_provider(values, origins, environ)
    try:
        return Loaded(Settings(**values), origins)
    except ValidationError as error:
        raise SettingsError(_bad_value(error, origins)) from None


Layer = list[tuple[str, Any, str]]


def _toml_layer(path: Path) -> Layer:
    if not path.is_file():
        return []
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{path} cannot be read: {error}. Mend the file or move it away.") from None
    return [(key, value, str(path)) for key, value in content.items()]


def _shared_layer(environ: Mapping[str, str]) -> Layer:
    return [
        (key, environ[variable], f"environment {variable}")
        for key, variable in SHARED_VARIABLES.items()
        if environ.get(variable)
    ]


def _environment_layer(environ: Mapping[str, str]) -> Layer:
    layer: Layer = []
    for variable, text in environ.items():
        if variable.startswith(PREFIX) and text:
            key = variable.removeprefix(PREFIX).lower()
            value = text.split(SEPARATORS[key]) if key in SEPARATORS else text
            layer.append((key, value, f"environment {variable}"))
    return layer


def _choose_provider(values: dict[str, Any], origins: dict[str, str], environ: Mapping[str, str]) -> None:
    """Fill in `provider`, `base_url` and `api_key` from the keys in the environment, where they are left open.

    A key only ever goes to its own provider's address, or to an address that was set for citekite by name:
    `OPENAI_BASE_URL` never receives a Fireworks key.
    """

    def default(key: str, value: str | None, origin: str) -> None:
        if value and key not in values:
            values[key], origins[key] = value, origin

    by_key = [name for name in ("fireworks", "openai") if environ.get(PROVIDERS[name].key_variable)]
    if "base_url" in values:
        by_key.reverse()  # an endpoint of the user's own: the key that the openai SDK would take comes first
    elif not by_key and environ.get("OPENAI_BASE_URL"):
        by_key = ["openai"]
    if by_key:
        default("provider", by_key[0], f"environment {PROVIDERS[by_key[0]].key_variable}")
    provider = PROVIDERS.get(str(values.get("provider")))
    if provider is None:
        return
    if provider.name == "openai":
        default("base_url", environ.get("OPENAI_BASE_URL"), "environment OPENAI_BASE_URL")
    default("api_key", environ.get(provider.key_variable), f"environment {provider.key_variable}")


def _unknown(key: str, origin: str) -> str:
    close = difflib.get_close_matches(key.lower(), Settings.model_fields)
    # Two letters swapped are the commonest slip: a name of the same letters comes before one that lacks a letter.
    close.sort(key=lambda name: sorted(name) != sorted(key.lower()))
    hint = f"; did you mean {close[0]!r}?" if close else "; `citekite config --help` lists all settings."
    return f"unknown setting {key!r} ({origin}){hint}"


def _bad_value(error: ValidationError, origins: Mapping[str, str]) -> str:
    first = error.errors(include_url=False)[0]
    key = str(first["loc"][0])
    secret = "SecretStr" in str(Settings.model_fields[key].annotation)
    value = "a secret" if secret else without_password(repr(first["input"]))
    wrong_address = first["type"] == "string_pattern_mismatch" and key.endswith("_url")
    reason = "an address starts with http:// or https://" if wrong_address else first["msg"]
    return f"setting {key!r} ({origins[key]}) cannot be {value}: {reason}"


def without_password(text: str) -> str:
    """The text with the name and password of each address in it masked.

    >>> without_password("https://me:secret@example.org/v1")
    'https://***@example.org/v1'
    """
    return re.sub(r"://[^/\s]*@", "://***@", text)
