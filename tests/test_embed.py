"""The embedders: what they send, what they return, and how one is chosen."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from citekite.embed.api import ApiEmbedder
from citekite.embed.choose import make_embedder, make_embedder_named
from citekite.embed.sentence_transformers import SentenceTransformersEmbedder
from citekite.embed.static import StaticEmbedder
from citekite.embed.vectors import unit_vectors
from citekite.endpoint.client import Endpoint
from citekite.errors import EndpointReply, MissingExtra, SettingsError
from citekite.settings import Settings
from scripted_endpoint import Fault, ScriptedEndpoint

STATIC = StaticEmbedder()


@given(st.lists(st.text(), min_size=1, max_size=8))
def test_static_vectors_have_length_one_and_do_not_depend_on_their_batch(texts: list[str]) -> None:
    """Whatever the text: empty, control characters, lone surrogates."""
    together = STATIC.embed_documents(texts)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for row, text in zip(together, texts, strict=True):
        np.testing.assert_allclose(row, STATIC.embed_query(text), atol=1e-6)


def test_static_vectors_are_those_of_wordllama() -> None:
    """Our pooling is the library's own, without its padding."""
    import wordllama

    reference = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    texts = ["How is data stored in Milvus?", "kite", "向量数据库 stores vectors", "long " * 3000]
    np.testing.assert_allclose(STATIC.embed_documents(texts), reference.embed(texts, norm=True), atol=1e-5)


def test_static_vectors_tell_related_from_unrelated() -> None:
    question = STATIC.embed_query("Where is the data stored?")
    related, unrelated = STATIC.embed_documents(["Milvus stores data in object storage.", "The cat sat on a mat."])
    assert question @ related > question @ unrelated + 0.2


@pytest.mark.parametrize("dimensions", [64, 128, 256])
def test_static_vectors_can_be_shorter(dimensions: int) -> None:
    embedder = StaticEmbedder(dimensions)
    assert embedder.dimension == dimensions
    assert embedder.name == f"static:wordllama-l2-supercat-{dimensions}"
    vector = embedder.embed_query("kites fly")
    np.testing.assert_allclose(vector, unit_vectors([STATIC.embed_query("kites fly")[:dimensions]])[0], atol=1e-5)


def test_static_vectors_of_an_unknown_length_are_refused() -> None:
    with pytest.raises(SettingsError, match="64, 128 or 256"):
        StaticEmbedder(100)


def test_loading_the_static_model_leaves_logging_alone_and_needs_no_network() -> None:
    """wordllama calls logging.basicConfig on import; an application's own logging must come out as it was."""
    code = """
import logging, socket
def refuse(*_): raise AssertionError("network")
socket.socket.connect = refuse
from citekite.embed.static import StaticEmbedder
StaticEmbedder().embed_query("hello")
root = logging.getLogger()
assert (root.handlers, root.level) == ([], logging.WARNING), (root.handlers, root.level)
logging.basicConfig(level=logging.ERROR)
assert len(root.handlers) == 1 and root.level == logging.ERROR
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_embedders_loads_no_library() -> None:
    code = """
import sys
import citekite.embed.choose, citekite.embed.batching, citekite.answer.generate
heavy = {"openai", "wordllama", "httpx2", "sentence_transformers", "tokenizers"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.lists(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=3, max_size=3), min_size=1))
def test_unit_vectors_have_length_one_and_keep_their_direction(rows: list[list[float]]) -> None:
    vectors = unit_vectors(rows)
    lengths = np.linalg.norm(np.array(rows), axis=1)
    normal = (lengths == 0) | (lengths > 1e-30)  # below, float32 itself runs out of digits
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1)[normal], 1, atol=1e-5)
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize(
    ("model", "document", "query"),
    [
        ("nomic-ai/nomic-embed-text-v1.5", "search_document: kites", "search_query: kites"),
        (
            "fireworks/qwen3-embedding-8b",
            "kites",
            "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:kites",
        ),
        ("anything-else", "kites", "kites"),
    ],
)
def test_task_prefixes_go_by_the_model(model: str, document: str, query: str) -> None:
    with ScriptedEndpoint() as endpoint:
        embedder = make_embedder(Settings(base_url=endpoint.base_url, embedding_model=model))
        embedder.embed_documents(["kites"])
        embedder.embed_query("kites")
        assert endpoint.texts() == [document, query]


def test_task_prefixes_can_be_set_also_to_nothing() -> None:
    with ScriptedEndpoint() as endpoint:
        chosen = Settings(
            base_url=endpoint.base_url, embedding_model="nomic-embed-text", document_prefix="", query_prefix="q: "
        )
        embedder = make_embedder(chosen)
        embedder.embed_documents(["kites"])
        embedder.embed_query("kites")
        assert endpoint.texts() == ["kites", "q: kites"]


def test_api_vectors_have_length_one_and_tell_the_dimension() -> None:
    with ScriptedEndpoint(dimension=48) as endpoint:
        embedder = ApiEmbedder(Endpoint(endpoint.base_url), "m")
        assert embedder.dimension is None
        vectors = embedder.embed_documents(["one text", "and another"])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        assert embedder.dimension == 48


def test_dimensions_are_asked_for_and_recorded_in_the_name() -> None:
    with ScriptedEndpoint(dimension=48) as endpoint:
        embedder = ApiEmbedder(Endpoint(endpoint.base_url), "m", dimensions=16)
        vector = embedder.embed_query("some text")
        assert vector.shape == (16,)
        assert np.linalg.norm(vector) == pytest.approx(1)
        assert endpoint.received[0].body["dimensions"] == 16
        assert embedder.name == "api:m@16"


def test_vectors_that_change_their_length_are_an_error_with_both() -> None:
    with ScriptedEndpoint(dimension=48) as endpoint:
        embedder = ApiEmbedder(Endpoint(endpoint.base_url, retry_seconds=0.8), "m")
        embedder.embed_documents(["one"])
        endpoint.script("/embeddings", *[Fault(kind="wrong_dimension")] * 9)
        with pytest.raises(EndpointReply, match=r"47 dimensions instead of 48.*asked \d times"):
            embedder.embed_documents(["two"])


SECRET = SecretStr("key")


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (Settings(), "static:wordllama-l2-supercat-256"),
        (Settings(dimensions=128), "static:wordllama-l2-supercat-128"),
        (Settings(provider="fireworks", api_key=SECRET), "api:nomic-ai/nomic-embed-text-v1.5"),
        (Settings(provider="fireworks", api_key=SECRET, dimensions=256), "api:nomic-ai/nomic-embed-text-v1.5@256"),
        (Settings(provider="ollama", embedding_model="bge-m3"), "api:bge-m3"),
        (Settings(embedding_base_url="http://here/v1", embedding_model="e"), "api:e"),
        (Settings(provider="fireworks", api_key=SECRET, embedder="static"), "static:wordllama-l2-supercat-256"),
        (Settings(embedder="sentence-transformers", embedding_model="/models/x"), "sentence-transformers:/models/x"),
    ],
)
def test_the_settings_choose_the_embedder_and_its_name_brings_it_back(chosen: Settings, name: str) -> None:
    assert make_embedder(chosen).name == name
    assert make_embedder_named(name, chosen).name == name


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        (Settings(embedder="api"), "FIREWORKS_API_KEY"),
        (Settings(provider="openai"), "OPENAI_API_KEY"),
        (Settings(embedding_model="/models/x"), "set `embedder` to 'sentence-transformers'"),
        (Settings(embedder="sentence-transformers"), "set `embedding_model`"),
        (Settings(dimensions=100), "64, 128 or 256"),
    ],
)
def test_settings_that_name_no_embedder_say_what_is_missing(chosen: Settings, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_embedder(chosen)
    assert says in str(caught.value)


def test_a_recorded_api_embedder_without_an_endpoint_says_which_key_to_set() -> None:
    with pytest.raises(SettingsError, match=r"'api:nomic-embed'.*set FIREWORKS_API_KEY"):
        make_embedder_named("api:nomic-embed", Settings())


@pytest.mark.parametrize("name", ["", "static", "static:other-model", "static:wordllama-l2-supercat-x", "api:", "b:c"])
def test_a_recorded_embedder_that_does_not_exist_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match="citekite reindex") as caught:
        make_embedder_named(name, Settings())
    assert repr(name) in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("sentence_transformers") is not None, reason="it is installed")
def test_sentence_transformers_that_is_not_installed_is_named_with_its_command() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'citekite\[sentence-transformers\]'"):
        SentenceTransformersEmbedder("all-MiniLM-L6-v2").embed_query("hello")


def test_the_static_model_can_be_used_from_many_threads_at_once() -> None:
    """A server answers several questions at a time, also as the very first thing it does."""
    embedder = StaticEmbedder()
    vectors: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: vectors.append(embedder.embed_query("kites"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(vectors) == 8
    for vector in vectors:
        np.testing.assert_array_equal(vector, vectors[0])
