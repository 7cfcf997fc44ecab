"""Records the streams that the page's demonstrations and tests replay, from a real search and a scripted model.

    python tests/record_demo.py

The documents are those of examples/knowledge; only the addresses of their sources are put in place of the real paths.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import citekite
from citekite import KnowledgeBase
from citekite.answer.prompt import NOT_IN_DOCUMENTS
from citekite.render import document_json, event_json
from scripted_endpoint import Messages, ScriptedEndpoint
from stored import knowledge_base

KNOWLEDGE = Path(__file__).resolve().parent.parent / "examples" / "knowledge"
RECORDING = Path(citekite.__file__).parent / "serve" / "ui" / "demo-recording.json"
PAGES = (
    "architecture.md",
    "backup-and-migration.md",
    "consistency-levels.md",
    "full-text-search.md",
    "milvus-lite.md",
    "rank-fusion.md",
    "what-is-milvus.md",
    "where-data-is-stored.md",
)
DATA = "Where does Milvus keep its data?"
BOTH = "How do Milvus Lite and a server differ in where they keep data, and how is it moved between them?"
NOTHING = "Who won the chess championship of 1972?"


def reply(messages: Messages) -> str:
    """What a model would say: a plan, an assessment, or an answer that cites the passages it was given."""
    system, prompt = messages[0]["content"], messages[-1]["content"]
    if "plan searches" in system:
        return json.dumps({"queries": ["Where does Milvus Lite keep its data?", "Where does a server keep its data?"]})
    if "You judge" in system:
        moved = "How is data moved from Milvus Lite to a server?"
        enough = moved in prompt
        missing = "" if enough else "how data is moved from one to the other"
        return json.dumps({"enough": enough, "missing": missing, "queries": [] if enough else [moved]})
    passages = re.findall(r'<passage number="(\d+)"[^>]*>\s*(.*?)\s*</passage>', prompt, re.DOTALL)

    def number(words: str) -> str:
        return next((f" [{number}]" for number, text in passages if words in text), "")

    question = prompt[prompt.rfind("<question>") :]
    if "chess" in question:
        return NOT_IN_DOCUMENTS
    if "differ" in question:
        return (
            f"They differ in **where** the files lie.\n\n- Milvus Lite keeps a folder whose name ends in `.db` "
            f"{number('whose name ends in `.db`')}.\n- A standalone server keeps everything below a `volumes` folder "
            f"next to its Docker Compose file{number('below a `volumes` folder')}.\n\nThe simplest way "
            f"from Lite to a server is to load the documents into the server{number('into the server. If')}."
        )
    return (
        f"Milvus has two kinds of data, and they go to different places{number('two kinds of data')}.\n\n"
        f"- In **Milvus Lite** it is a *folder* whose name ends in `.db`, with Parquet files for segments and a "
        f"write-ahead log{number('Parquet files for segments')}.\n- On the disk of a **standalone server** everything "
        f"lies below a `volumes` folder next to the Docker Compose file{number('below a `volumes` folder')}.\n\n"
        f"The documentation warns that “the log is written to disk after each insert” "
        f"{number('Parquet files for segments')}."
    )


def recorded(kb: KnowledgeBase, question: str, **options: Any) -> list[dict[str, Any]]:
    named = (event_json(event) for event in kb.ask_stream(question, **options))
    return [{"name": name, "values": values} for name, values in named]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ScriptedEndpoint(pieces=reply) as endpoint:
        uri = f"{folder}/demo.db"
        model = {"base_url": endpoint.base_url, "model": "recorded", "api_key": "unused"}
        with knowledge_base(uri, **model) as kb:
            kb.sync(*(KNOWLEDGE / page for page in PAGES))
            streams = {
                "answered": recorded(kb, DATA, k=6),
                "deep": recorded(kb, BOTH, k=6, deep=True),
                "refused": recorded(kb, NOTHING, k=4),
            }
        with knowledge_base(uri) as kb:
            streams["extracted"] = recorded(kb, DATA, k=4)
            documents = [document_json(kb.document(one.source)) for one in kb.documents()]
    text = json.dumps({"streams": streams, "documents": documents}, ensure_ascii=False).replace("}, {", "},\n{")
    web = f"{KNOWLEDGE.as_posix()}/where-data-is-stored.md"
    text = text.replace(web, "https://docs.example.org/milvus/where-data-is-stored.md")
    text = text.replace(KNOWLEDGE.as_posix(), "/srv/knowledge")
    RECORDING.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
