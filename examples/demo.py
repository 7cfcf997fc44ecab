"""`make demo`: sync the documents that this project ships and ask them three questions. No key, no network."""

from __future__ import annotations

from pathlib import Path

from citekite.cli.app import app

ROOT = Path(__file__).resolve().parent.parent
DATABASE = ROOT / "demo.db"
QUESTIONS = (
    "How is data stored in Milvus?",
    "Does overlap between chunks help?",
    "Which Fireworks requests must be streamed?",
)


def main() -> None:
    """Show each command, then run it; in one process, so that imports are paid for once."""
    citekite("sync", "examples/knowledge")
    for question in QUESTIONS:
        citekite("ask", question)


def citekite(*arguments: str) -> None:
    """One command of the command line, on the demo's own database and on the embedded default."""
    shown = " ".join(f'"{argument}"' if " " in argument else argument for argument in arguments)
    print(f"\n$ citekite {shown}", flush=True)
    paths = [str(ROOT / argument) if (ROOT / argument).exists() else argument for argument in arguments]
    app([*paths, "--uri", str(DATABASE)], standalone_mode=False)


if __name__ == "__main__":
    main()
