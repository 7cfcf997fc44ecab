"""Milvus' tutorial "Build RAG with Milvus and Fireworks AI", step by step, through the library.

    python examples/tutorial.py                    the tutorial's pages, downloaded
    python examples/tutorial.py path/to/en/faq     a folder of them
    FIREWORKS_API_KEY=... python examples/tutorial.py --model accounts/fireworks/models/llama-v3p1-405b-instruct

Without a key the vectors come from the embedded model, and the answer is made of sentences of the pages.
https://milvus.io/docs/build_RAG_with_milvus_and_fireworks.md
"""

from __future__ import annotations

import argparse
import json
import sys

from citekite import CitekiteError, KnowledgeBase

PAGES = "https://github.com/milvus-io/milvus-docs/releases/download/v2.4.6-preview/milvus_docs_2.4.x_en.zip"
QUESTION = "How is data stored in milvus?"


def main() -> None:
    arguments = _arguments()
    with KnowledgeBase(
        arguments.uri,
        collection="my_rag_collection",
        model=arguments.model,
        # Of the downloaded archive, the FAQ pages are taken, as in the tutorial; a folder is taken as it is.
        include=("**/en/faq/*.md",) if arguments.pages.endswith(".zip") else None,
        splitter="separator",
        separator="# ",
        consistency="Strong",
    ) as kb:
        run(kb, arguments.pages)


def run(kb: KnowledgeBase, pages: str) -> None:
    """The tutorial's steps, each printed."""
    print("## A test embedding: its dimension and first values")
    embedding = kb.embed("This is a test")
    print(len(embedding))
    print(embedding[:10])

    print('\n## Load the pages, split them at "# ", embed them, store them in Milvus')
    report = kb.sync(pages)
    print(f"{kb.count()} pieces stored, {report.texts} texts embedded")

    # Hybrid search; mode="dense" gives the tutorial's own search, with inner products as the distances.
    print("\n## The three best pieces, with their distance (the fused score: the larger, the nearer)")
    hits = kb.search(QUESTION, k=3)
    print(json.dumps([(hit.chunk.text, hit.score) for hit in hits], indent=4))

    print("\n## The answer")
    print(kb.ask(QUESTION, k=3))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Milvus' tutorial on RAG with Fireworks AI, through citekite.")
    parser.add_argument("pages", nargs="?", default=PAGES, help="folder of the FAQ pages, or the URL of a zip archive")
    parser.add_argument("--model", help="chat model; the provider's default if left out")
    parser.add_argument("--uri", default="./milvus_demo.db", help="Milvus: a .db path, or the URI of a server")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except CitekiteError as error:
        sys.exit(str(error))
