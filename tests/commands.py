"""Runs the command line as a user does: a real process, in a folder, with an environment free of keys."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from forked import Forked, environment

STORAGE = """\
# Storage

## Where data is kept

Milvus keeps inserted data in object storage such as MinIO. Metadata is kept in etcd.

## Flush

The flush call seals growing segments and writes them to object storage.
"""
CONSISTENCY = "# Consistency\n\nMilvus offers four consistency levels: strong, bounded, session and eventual.\n"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "citekite", *arguments]


def citekite(folder: Path, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one command in a folder to its end."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with Forked(command(*arguments), cwd=folder, env=environment(**variables), text=True, **streams) as process:
        try:
            out, errors = process.communicate(stdin, timeout=60)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


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
