"""The file beside an embedded database in which the server that has it open leaves its address, for other commands.

It is for the owner alone (mode 600), who could read the database too: its token opens everything.
A server that was killed leaves the file behind; that is seen by its process, and by who answers at the address.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that has the database open: where it listens, the token that lets its owner in, its process."""

    url: str
    token: str = field(repr=False)
    pid: int
    version: str

    def __str__(self) -> str:
        return f"citekite serve (process {self.pid}, {self.url})"


def address_file(database: Path) -> Path:
    """The file in which a server that has this database open leaves its address."""
    return database.with_name(f"{database.name}.server.json")


def announce(server: RunningServer, database: Path) -> None:
    """Leave the server's address beside its database."""
    path = address_file(database)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # which makes it with mode 600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(server), file)
    Path(name).replace(path)


def withdraw(server: RunningServer, database: Path) -> None:
    """Take the address away, unless another server has left its own there."""
    if read_address(database) == server:
        address_file(database).unlink(missing_ok=True)


def read_address(database: Path) -> RunningServer | None:
    """What a server left beside a database; None where there is nothing, or its process is gone."""
    try:
        values = json.loads(address_file(database).read_text(encoding="utf-8"))
        server = RunningServer(**values)
        os.kill(server.pid, 0)
    except (OSError, ValueError, TypeError):  # also of another user, whose server is none of ours
        return None
    return server
