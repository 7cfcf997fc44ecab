"""The jobs that are timed, each in a process of its own: `python -m bench.jobs NAME ARGUMENT...` prints a JSON object.

The bare jobs are what a short script does with pymilvus and the openai SDK alone, without any check or retry; they
are the measure for the same job done by citekite. Every job imports what it needs itself.
"""

from __future__ import annotations

import json
import pickle
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BATCH = 512  # rows of one insert: the fastest on Milvus Lite
DEPTH = 50  # hits of one leg
WARM_UP, ROUNDS = 5, 4


def bare_tutorial(database: str, folder: str, base_url: str, per_request: str) -> dict[str, Any]:
    """Read, split at "# ", embed `per_request` texts a request (0: all in one), insert, flush."""
    import numpy as np
    from openai import OpenAI
    from pymilvus import MilvusClient

    texts = [piece for path in sorted(Path(folder).glob("*.md")) for piece in path.read_text().split("# ")]
    texts = [text for text in texts if text.strip()]
    size = int(per_request) or len(texts)
    model = OpenAI(base_url=base_url, api_key="bench")
    vectors = [
        np.asarray(row.embedding, dtype=np.float32)
        for start in range(0, len(texts), size)
        for row in sorted(
            model.embeddings.create(model="stand-in", input=texts[start : start + size]).data, key=lambda row: row.index
        )
    ]
    client = MilvusClient(database)
    _create(client, "bare", len(vectors[0]))
    rows = [
        {**_row(number, text), "dense": vector}
        for number, (text, vector) in enumerate(zip(texts, vectors, strict=True))
    ]
    client.insert("bare", rows)
    client.flush("bare")
    client.close()
    return {"rows": len(rows)}


def bare_ask(database: str, base_url: str, question: str) -> dict[str, Any]:
    """The three calls behind an answer: embed the question, find three passages, let the model answer from them."""
    from openai import OpenAI
    from pymilvus import MilvusClient

    model, client = OpenAI(base_url=base_url, api_key="bench"), MilvusClient(database)
    client.load_collection("citekite__1")
    vector = model.embeddings.create(model="stand-in", input=[question]).data[0].embedding
    hits = client.search("citekite__1", [vector], anns_field="dense", limit=3, output_fields=["text"])[0]
    passages = "\n".join(hit["entity"]["text"] for hit in hits)
    pieces = model.chat.completions.create(
        model="stand-in",
        messages=[{"role": "user", "content": f"{passages}\n\nAnswer from these passages: {question}"}],
        max_tokens=1024,
        stream=True,
    )
    return {"answer": "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)}


def citekite_docs(database: str, folder: str) -> dict[str, Any]:
    """Sync a folder with the embedded default; the clock of `seconds` starts when the libraries are imported."""
    import milvus_lite  # noqa: F401
    import pymilvus  # noqa: F401
    import safetensors  # noqa: F401
    import tantivy  # noqa: F401
    import tokenizers  # noqa: F401

    from citekite import KnowledgeBase
    from citekite.ingest import sync  # noqa: F401

    started = time.perf_counter()
    with KnowledgeBase(database) as kb:
        report = kb.sync(folder)
    return {"seconds": time.perf_counter() - started, "texts": report.texts, "added": report.added}


def citekite_api(database: str, folder: str, base_url: str, batch_size: str, concurrency: str) -> dict[str, Any]:
    """Sync a folder with embeddings of an endpoint; the clock of `seconds` starts when the libraries are imported."""
    import milvus_lite  # noqa: F401
    import openai  # noqa: F401
    import pymilvus  # noqa: F401
    import tantivy  # noqa: F401

    from citekite import KnowledgeBase
    from citekite.ingest import sync  # noqa: F401

    options = {"embedder": "api", "base_url": base_url, "embedding_model": "stand-in", "api_key": "bench"}
    started = time.perf_counter()
    with KnowledgeBase(database, batch_size=int(batch_size), concurrency=int(concurrency), **options) as kb:
        report = kb.sync(folder)
    return {"seconds": time.perf_counter() - started, "texts": report.texts}


def bare_docs(database: str, rows_file: str, index: str = "AUTOINDEX") -> dict[str, Any]:
    """Insert finished rows, the vectors with that index.

    The clock of `seconds` starts when the libraries are imported and the rows are read.
    """
    import milvus_lite  # noqa: F401
    from pymilvus import MilvusClient

    rows = read_rows(rows_file)
    started = time.perf_counter()
    client = MilvusClient(database)
    _create(client, "bare", len(rows[0]["dense"]), index)
    for start in range(0, len(rows), BATCH):
        client.insert("bare", rows[start : start + BATCH])
    client.flush("bare")
    _release(client, database)
    return {"seconds": time.perf_counter() - started, "rows": len(rows)}


def imports() -> dict[str, Any]:
    """Import the clients of Milvus and do nothing: no process that opens a database takes less."""
    import milvus_lite  # noqa: F401
    import pymilvus  # noqa: F401

    return {}


def version() -> dict[str, Any]:
    """Load the command line, and no more."""
    import citekite.cli.app  # noqa: F401

    return {}


def finished_rows(database: str, rows_file: str) -> dict[str, Any]:
    """Write the rows of a synced database, with their vectors, to a file."""
    from citekite.settings import Settings
    from citekite.store import schema
    from citekite.store.milvus import MilvusStore

    with MilvusStore.from_settings(Settings(uri=database)) as store:
        collection = store.open("citekite")
        entries = list(collection.entries())
        vectors = collection.vectors([entry.chunk.id for entry in entries])
        rows = [
            {
                **schema.to_row(entry.chunk, entry.digest, entry.chunks, lexical=True, contexts=True, access=True),
                schema.DENSE: vectors[entry.chunk.id],
            }
            for entry in entries
        ]
    Path(rows_file).write_bytes(pickle.dumps(rows))
    return {"rows": len(rows)}


def citekite_search(database: str, questions_file: str) -> dict[str, Any]:
    """The median time of a hybrid search."""
    from citekite import KnowledgeBase

    questions = json.loads(Path(questions_file).read_text())
    with KnowledgeBase(database) as kb:
        return {"p50": median_ms(kb.search, questions)}


def bare_search(database: str, rows_file: str, questions_file: str) -> dict[str, Any]:
    """The median time of two searches with `output_fields`: dense and Milvus' BM25, and the dense one twice.

    The questions' vectors and terms are made before the clock starts.
    """
    from pymilvus import MilvusClient

    from citekite.embed.static import StaticEmbedder
    from citekite.retrieve.lexical import analyse
    from citekite.store import schema

    rows = read_rows(rows_file, lexical=True)
    client = MilvusClient(database)
    fields, indexes = schema.build(client, len(rows[0][schema.DENSE]), lexical=True)
    client.create_collection("bare", schema=fields)
    client.create_index("bare", indexes, sync=False)
    for start in range(0, len(rows), BATCH):
        client.insert("bare", rows[start : start + BATCH])
    client.flush("bare")
    client.release_collection("bare")
    client.load_collection("bare")
    embedder = StaticEmbedder()
    questions = [(embedder.embed_query(text), analyse(text)) for text in json.loads(Path(questions_file).read_text())]

    def leg(field: str, value: Any) -> None:
        client.search("bare", data=[value], anns_field=field, limit=DEPTH, output_fields=list(schema.CHUNK_FIELDS))

    def both(question: tuple[Any, str]) -> None:
        leg(schema.DENSE, question[0])
        leg(schema.SPARSE, question[1])

    def dense_twice(question: tuple[Any, str]) -> None:
        leg(schema.DENSE, question[0])
        leg(schema.DENSE, question[0])

    return {"p50": median_ms(both, questions), "p50_dense_twice": median_ms(dense_twice, questions)}


def grown(database: str, folder: str, size: str) -> dict[str, Any]:
    """Write a collection of that many chunks, made of the sentences of a folder, twenty to a document."""
    import random
    import re
    from hashlib import blake2b

    import numpy as np

    from citekite.embed.static import StaticEmbedder
    from citekite.store.milvus import MilvusStore
    from citekite.store.record import CollectionRecord
    from citekite.store.writer import Entry
    from citekite.types import Chunk

    drawn = random.Random(0)
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(Path(folder).rglob("*.md")))
    sentences = [part for part in re.split(r"(?<=[.!?])\s+|\n+", text) if len(part) > 20]
    embedder = StaticEmbedder()

    def chunk(number: int) -> Chunk:
        document, ordinal = divmod(number, 20)
        body = " ".join(drawn.choices(sentences, k=7))
        key = blake2b(str(document).encode(), digest_size=8).hexdigest()
        id = f"{key}-{blake2b(body.encode(), digest_size=12).hexdigest()}-{ordinal}"
        source = f"/grown/{document % 37}/{document}.md"
        return Chunk(id, source, f"Document {document}", ordinal, 0, len(body), body, ("Section",))

    started = time.perf_counter()
    with MilvusStore(database) as store:
        vectors = embedder.embed_documents(["dimension"])
        record = CollectionRecord(embedder.name, vectors.shape[1], english_only=False, splitter="grown")
        with store.create("citekite", record).writing() as writer:
            for start in range(0, int(size), 2_000):
                chunks = [chunk(number) for number in range(start, min(start + 2_000, int(size)))]
                entries = [Entry(one, "digest", 20) for one in chunks]
                writer.upsert(entries, np.asarray(embedder.embed_documents([one.indexed_text for one in chunks])))
    return {"seconds": time.perf_counter() - started}


def citekite_growth(uri: str, folder: str) -> dict[str, Any]:
    """Sync a folder; the clock starts when the libraries are imported."""
    import milvus_lite  # noqa: F401
    import pymilvus  # noqa: F401

    from citekite import KnowledgeBase
    from citekite.ingest import sync  # noqa: F401

    started = time.perf_counter()
    with KnowledgeBase(uri) as kb:
        report = kb.sync(folder)
    return {
        "seconds": time.perf_counter() - started,
        "texts": report.texts,
        "added": report.added,
        "files": report.new + report.unchanged,
    }


def citekite_scale(database: str, questions_file: str) -> dict[str, Any]:
    """The median times of searches in one collection, and how much of the exact ten nearest the dense leg finds."""
    from citekite import KnowledgeBase

    questions = json.loads(Path(questions_file).read_text())
    with KnowledgeBase(database) as kb:
        collection = kb.collection()
        narrow = 'source like "/grown/3/%"'
        hybrid = median_ms(kb.search, questions)
        filtered = median_ms(lambda question: kb.search(question, filter=narrow), questions)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1_000_000
        embedded = [(kb.embedder().embed_query(question)) for question in questions]
        dense = median_ms(lambda vector: collection.search_dense(vector, DEPTH, ""), embedded)
        milvus = median_ms(lambda vector: collection._rows.search(vector, "dense", "IP", DEPTH, ""), embedded[:8])
        recall = statistics.mean(
            len(
                _top(collection.search_dense(vector, 10, ""))
                & _top(collection._rows.search(vector, "dense", "IP", 10, ""))
            )
            / 10
            for vector in embedded[:20]
        )
    return {
        "hybrid": hybrid,
        "filtered": filtered,
        "dense": dense,
        "milvus": milvus,
        "recall": recall,
        "memory": memory,
    }


def _top(found: Sequence[tuple[str, float]]) -> set[str]:
    return {id for id, _ in found}


def median_ms(search: Callable[[Any], object], questions: Sequence[Any]) -> float:
    """The median time of a search in milliseconds, all questions in turn, after a few to warm up."""
    for question in questions[:WARM_UP]:
        search(question)
    times = []
    for question in list(questions) * ROUNDS:
        started = time.perf_counter()
        search(question)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def read_rows(rows_file: str, *, lexical: bool = False) -> list[dict[str, Any]]:
    """The rows that `finished_rows` wrote; their analysed text belongs to a collection with Milvus' BM25 alone."""
    rows: list[dict[str, Any]] = pickle.loads(Path(rows_file).read_bytes())
    if not lexical:
        for row in rows:
            del row["lexical"]
    return rows


def _create(client: Any, name: str, dimension: int, index: str = "AUTOINDEX") -> None:
    """A collection with the fields that citekite's has in the embedded database."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, max_length=64, is_primary=True)
    for field, length in (
        ("source", 4096),
        ("title", 1024),
        ("text", 65_535),
        ("digest", 64),
        ("context", 4096),
        ("access", 4200),
    ):
        schema.add_field(field, DataType.VARCHAR, max_length=length)
    for field in ("ordinal", "start", "end", "line", "page", "chunks"):
        schema.add_field(field, DataType.INT64)
    schema.add_field("headings", DataType.ARRAY, element_type=DataType.VARCHAR, max_length=1024, max_capacity=16)
    schema.add_field("metadata", DataType.JSON)
    schema.add_field("dense", DataType.FLOAT_VECTOR, dim=dimension)
    indexes = client.prepare_index_params()
    indexes.add_index("dense", index_type=index, metric_type="IP")
    client.create_collection(name, schema=schema)
    client.create_index(name, indexes, sync=False)  # pymilvus would sleep 0.5 s to see it done


def _row(number: int, text: str) -> dict[str, Any]:
    numbers = dict.fromkeys(("ordinal", "start", "end", "line", "page", "chunks"), number)
    texts = dict.fromkeys(("source", "title", "digest", "context", "access"), "")
    return {"id": str(number), "text": text, "headings": [], "metadata": {}, **numbers, **texts}


def _release(client: Any, database: str) -> None:
    """Close the database as citekite does, so that its last write is in the time of both."""
    from milvus_lite.server_manager import server_manager_instance

    client.close()
    server_manager_instance.release_server(str(Path(database).resolve()))


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    job.__name__: job
    for job in (
        bare_tutorial,
        bare_ask,
        citekite_docs,
        citekite_api,
        bare_docs,
        imports,
        version,
        finished_rows,
        citekite_search,
        bare_search,
        grown,
        citekite_growth,
        citekite_scale,
    )
}


def main() -> None:
    name, *arguments = sys.argv[1:]
    outcome = JOBS[name](*arguments)
    outcome["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
