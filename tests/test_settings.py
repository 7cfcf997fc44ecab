"""Settings: which source wins, what is said about a bad one, and that no secret shows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.cli import options
from citekite.errors import SettingsError
from citekite.providers import PROVIDERS
from citekite.settings import SEPARATORS, Loaded, Settings, load_settings

SECRETS = ("token", "source_token", "api_key", "embedding_api_key", "rerank_api_key", "key")

words = st.text(st.characters(exclude_categories=("C",), exclude_characters=os.pathsep), min_size=1, max_size=20)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,30}", fullmatch=True)
addresses = st.from_regex(r"https?://[a-z]{1,9}(:[1-9][0-9]{1,3})?/[a-z0-9]{0,5}", fullmatch=True)
hosts = st.from_regex(r"[a-z]{1,9}(\.[a-z]{2,9})?", fullmatch=True)
positive = st.floats(min_value=0.001, max_value=1e6)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "uri": words,
    "token": words,
    "database": names,
    "collection": names,
    "consistency": st.sampled_from(["Strong", "Session", "Bounded", "Eventually"]),
    "source_token": words,
    "source_database": names,
    "include": st.lists(words, min_size=1, max_size=3),
    "exclude": st.lists(words, min_size=1, max_size=3),
    "text_column": words,
    "max_file_mb": positive,
    "max_archive_mb": positive,
    "parse_seconds": positive,
    "allow_private_urls": st.booleans(),
    "engine": st.sampled_from(["local", "ray"]),
    "ray_address": words,
    "splitter": st.sampled_from(["sections", "separator"]),
    "separator": words,
    "chunk_characters": st.integers(200, 8000),
    "provider": st.sampled_from(sorted(PROVIDERS)),
    "base_url": addresses,
    "api_key": words,
    "model": words,
    "fallback_models": st.lists(hosts, min_size=1, max_size=3),
    "max_tokens": st.integers(1, 100_000),
    "temperature": st.floats(0, 2),
    "timeout": positive,
    "retry_seconds": positive,
    "embedder": st.sampled_from(["static", "api", "sentence-transformers"]),
    "embedding_model": words,
    "embedding_base_url": addresses,
    "embedding_api_key": words,
    "dimensions": st.integers(1, 32768),
    "document_prefix": words,
    "query_prefix": words,
    "concurrency": st.integers(1, 256),
    "batch_size": st.integers(1, 2048),
    "embedding_price": positive,
    "contextual": st.booleans(),
    "mode": st.sampled_from(["hybrid", "dense", "lexical"]),
    "k": st.integers(1, 1000),
    "fusion": st.sampled_from(["convex", "rrf"]),
    "lexical_weight": st.floats(0, 1),
    "query_expansion": st.sampled_from(["none", "multi-query", "hyde"]),
    "reranker": st.sampled_from(["none", "api", "sentence-transformers"]),
    "rerank_model": words,
    "rerank_base_url": addresses,
    "rerank_api_key": words,
    "rerank_depth": st.integers(1, 1000),
    "context_tokens": st.integers(100, 100_000),
    "abstain_threshold": st.floats(0, 1),
    "verify": st.sampled_from(["overlap", "model"]),
    "rerank_price": positive,
    "prompt_price": positive,
    "completion_price": positive,
    "deep_rounds": st.integers(1, 20),
    "deep_tokens": st.integers(1000, 100_000),
    "deep_seconds": positive,
    "store_seconds": positive,
    "bulk_storage": hosts.map("s3://{}".format),
    "bulk_rows": st.integers(1, 10_000_000),
    "host": words,
    "port": st.integers(0, 65535),
    "data_dir": words,
    "max_streams": st.integers(1, 10_000),
    "max_upload_mb": positive,
    "requests_per_minute": st.integers(1, 100_000),
    "allowed_hosts": st.lists(hosts, min_size=1, max_size=3),
    "cors_origins": st.lists(addresses, min_size=1, max_size=3),
    "mcp_sync": st.booleans(),
    "telemetry": st.booleans(),
    "telemetry_content": st.booleans(),
    "log_format": st.sampled_from(["text", "json"]),
    "log_level": st.sampled_from(["debug", "info", "warning", "error"]),
    "server": addresses,
    "key": words,
}
some_settings = st.fixed_dictionaries({}, optional=VALUES)


def _load(
    directory: Path, toml: str = "", environ: dict[str, str] | None = None, arguments: dict[str, Any] | None = None
) -> Loaded:
    (directory / "citekite.toml").write_text(toml, encoding="utf-8")
    return load_settings(arguments, environ=environ or {}, directory=directory)


def _plain(settings: Settings, name: str) -> Any:
    value = getattr(settings, name)
    if isinstance(value, tuple):
        return list(value)
    return value.get_secret_value() if name in SECRETS and value else value


def _toml(values: dict[str, Any]) -> str:
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


def _as_variable(name: str, value: Any) -> str:
    if isinstance(value, list):
        return SEPARATORS[name].join(value)
    return json.dumps(value).strip('"') if _bare(value) else str(value)


def _bare(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _variables(values: dict[str, Any]) -> dict[str, str]:
    return {f"CITEKITE_{name.upper()}": _as_variable(name, value) for name, value in values.items()}


@given(some_settings)
def test_what_is_written_to_the_file_comes_back_with_the_file_as_its_origin(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    directory = tmp_path_factory.getbasetemp()
    loaded = _load(directory, _toml(values))

    assert {name: _plain(loaded.settings, name) for name in values} == values
    assert {name for name, origin in loaded.origins.items() if origin.endswith("citekite.toml")} == set(values)
    assert {name for name, origin in loaded.origins.items() if origin == "default"} == set(options.OPTIONS) - set(
        values
    )


@given(some_settings)
def test_what_is_set_in_the_environment_comes_back_with_the_variable_as_its_origin(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    loaded = _load(tmp_path_factory.getbasetemp(), environ=_variables(values))

    assert {name: _plain(loaded.settings, name) for name in values} == values
    assert all(loaded.origins[name] == f"environment CITEKITE_{name.upper()}" for name in values)


@given(some_settings, some_settings, some_settings)
def test_an_argument_wins_over_the_environment_and_that_over_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    arguments: dict[str, Any],
    variables: dict[str, Any],
    written: dict[str, Any],
) -> None:
    loaded = _load(tmp_path_factory.getbasetemp(), _toml(written), _variables(variables), arguments)
    expected = written | variables | arguments

    assert {name: _plain(loaded.settings, name) for name in expected} == expected


def test_the_strategies_above_cover_every_setting() -> None:
    assert set(VALUES) == set(Settings.model_fields)


def test_every_setting_has_an_option_and_every_option_a_setting() -> None:
    assert set(options.OPTIONS) == set(Settings.model_fields)
    groups = [value for value in vars(options).values() if isinstance(value, tuple)]
    assert sorted(name for group in groups for name in group) == sorted(options.OPTIONS)


def test_a_variable_of_ours_wins_over_the_shared_one_and_that_over_the_file(tmp_path: Path) -> None:
    toml, shared = 'uri = "file.db"\n', {"MILVUS_URI": "http://shared:19530", "MILVUS_TOKEN": "t"}

    by_shared = _load(tmp_path, toml, shared)
    by_ours = _load(tmp_path, toml, {**shared, "CITEKITE_URI": "ours.db"})

    assert (by_shared.settings.uri, by_shared.origins["uri"]) == ("http://shared:19530", "environment MILVUS_URI")
    assert by_shared.origins["token"] == "environment MILVUS_TOKEN"
    assert (by_ours.settings.uri, by_ours.origins["uri"]) == ("ours.db", "environment CITEKITE_URI")


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    loaded = _load(tmp_path, environ={"CITEKITE_K": "", "MILVUS_URI": "", "FIREWORKS_API_KEY": ""})

    assert loaded.settings == Settings()


@pytest.mark.parametrize(
    ("environ", "provider", "key", "base_url"),
    [
        ({"FIREWORKS_API_KEY": "f"}, "fireworks", "f", None),
        ({"OPENAI_API_KEY": "o"}, "openai", "o", None),
        ({"FIREWORKS_API_KEY": "f", "OPENAI_API_KEY": "o"}, "fireworks", "f", None),
        ({"OPENAI_API_KEY": "o", "OPENAI_BASE_URL": "http://own/v1"}, "openai", "o", "http://own/v1"),
        ({"OPENAI_BASE_URL": "http://own/v1"}, "openai", None, "http://own/v1"),
        # a key goes to its own provider alone: the address of the other one does not receive it
        ({"FIREWORKS_API_KEY": "f", "OPENAI_BASE_URL": "http://own/v1"}, "fireworks", "f", None),
        ({"FIREWORKS_API_KEY": "f", "CITEKITE_PROVIDER": "openai"}, "openai", None, None),
        ({"OPENAI_API_KEY": "o", "CITEKITE_PROVIDER": "fireworks"}, "fireworks", None, None),
        ({"FIREWORKS_API_KEY": "f", "CITEKITE_API_KEY": "own"}, "fireworks", "own", None),
        ({}, None, None, None),
    ],
)
def test_the_key_in_the_environment_chooses_the_provider(
    tmp_path: Path, environ: dict[str, str], provider: str | None, key: str | None, base_url: str | None
) -> None:
    settings = _load(tmp_path, environ=environ).settings

    assert (settings.provider, _plain(settings, "api_key"), settings.base_url) == (provider, key, base_url)


@pytest.mark.parametrize(
    ("key", "close"), [("modle", "model"), ("colection", "collection"), ("max_token", "max_tokens"), ("nonsense", None)]
)
def test_an_unknown_setting_is_named_with_its_place_and_the_one_that_was_meant(
    tmp_path: Path, key: str, close: str | None
) -> None:
    hint = f"did you mean '{close}'?" if close else "`citekite config --help` lists all settings"

    with pytest.raises(SettingsError, match=f"'{key}' .*citekite.toml.*{hint}"):
        _load(tmp_path, f"{key} = 1\n")
    with pytest.raises(SettingsError, match=f"'{key}' .*environment CITEKITE_{key.upper()}.*{hint}"):
        _load(tmp_path, environ={f"CITEKITE_{key.upper()}": "1"})
    with pytest.raises(SettingsError, match=f"'{key}' .argument.*{hint}"):
        _load(tmp_path, arguments={key: 1})


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("k", "ten", "valid integer"),
        ("k", "0", "greater than or equal to 1"),
        ("mode", "hibrid", "'hybrid', 'dense' or 'lexical'"),
        ("provider", "firework", "'fireworks', 'openai' or 'ollama'"),
        ("consistency", "strong", "'Strong', 'Session', 'Bounded' or 'Eventually'"),
        ("embedder", "torch", "'static', 'api' or 'sentence-transformers'"),
        ("temperature", "3", "less than or equal to 2"),
        ("timeout", "inf", "finite number"),
        ("lexical_weight", "nan", "finite number"),
        ("allow_private_urls", "perhaps", "valid boolean"),
        ("base_url", "example.org/v1", "starts with http:// or https://"),
        ("collection", "my-docs", "[A-Za-z_]"),
    ],
)
def test_a_bad_value_is_named_with_its_key_its_place_and_what_is_allowed(
    tmp_path: Path, key: str, value: str, allowed: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, environ={f"CITEKITE_{key.upper()}": value})

    message = str(caught.value)
    assert f"setting '{key}' (environment CITEKITE_{key.upper()}) cannot be '{value}'" in message
    assert message.count(allowed) == 1


@pytest.mark.parametrize("content", [b"k = \n", b"k = 1\nk = 2\n", b"\xff\xfe", b"[k\n"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "citekite.toml").write_bytes(content)

    with pytest.raises(SettingsError, match=r"citekite\.toml cannot be read: .*Mend the file"):
        load_settings(environ={}, directory=tmp_path)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "citekite.toml").write_bytes(b"\xef\xbb\xbfk = 7\n")

    assert load_settings(environ={}, directory=tmp_path).settings.k == 7


@given(st.sampled_from(SECRETS), st.text("0123456789abcdef", min_size=12, max_size=40))
def test_no_secret_shows_in_a_repr_or_a_dump(name: str, secret: str) -> None:
    settings = Settings(**{name: secret})

    assert secret not in repr(settings) + str(settings) + settings.model_dump_json()
    assert secret not in repr(Loaded(settings, {}))


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_of_the_wrong_type_does_not_show_in_the_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=f"'{name}' .* cannot be a secret: .*valid string") as caught:
        _load(tmp_path, f"{name} = 123456789\n")

    assert "123456789" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_password_in_an_address_does_not_show_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ftp") as caught:
        _load(tmp_path, 'base_url = "ftp://me:hunter2@example.org/v1"\n')

    assert "hunter2" not in str(caught.value)


def test_capitals_and_an_address_without_scheme_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"unknown setting 'Model' .*did you mean 'model'"):
        _load(tmp_path, "Model = 'm'\n")
    with pytest.raises(
        SettingsError, match=r"'base_url' .* cannot be 'localhost:8000/v1': an address starts with http://"
    ):
        _load(tmp_path, "base_url = 'localhost:8000/v1'\n")
