"""Runs the command line as a user does: a real process, in a folder, with an environment free of keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

OURS = ("CITEKITE_", "FIREWORKS_", "OPENAI_", "MILVUS_")
STORAGE = """\
# Storage

## Where data is kept

Milvus keeps inserted data in object storage such as MinIO. Metadata is kept in etcd.

## Flush

The flush call seals growing segments and writes them to object storage.
"""
CONSISTENCY = "# Consistency\n\nMilvus offers four consistency levels: strong, bounded, session and eventual.\n"


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without what citekite reads, plus the given variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**clean, "PYTHONUTF8": "1", "COLUMNS": "120", **variables}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "citekite", *arguments]


def citekite(folder: Path, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one command in a folder to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(**variables),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def as_json(run: subprocess.CompletedProcess[str]) -> Any:
    """What a command that went well printed, as JSON."""
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def write_docs(folder: Path) -> Path:
    """A folder `docs` with two documents of four chunks."""
    docs = folder / "docs"
    docs.mkdir()
    (docs / "storage.md").write_text(STORAGE, encoding="utf-8")
    (docs / "consistency.md").write_text(CONSISTENCY, encoding="utf-8")
    return docs
