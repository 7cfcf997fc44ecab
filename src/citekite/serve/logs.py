"""The server's log on standard error: lines for people, or one JSON object a line for programs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from citekite import telemetry
from citekite.serve.watch import request_id
from citekite.settings import Settings
from citekite.wellformed import printable


def set_up_logs(settings: Settings, stream: TextIO | None = None) -> None:
    """Log as the settings say: of citekite from `log_level` on, of libraries warnings and errors.

    Each line of a request has its id, whichever thread writes it.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if settings.log_format == "json" else Lines())
    handler.addFilter(_with_ids)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("citekite").setLevel(settings.log_level.upper())


def _with_ids(record: logging.LogRecord) -> bool:
    """Note where a record comes from; in the thread that logs, which knows."""
    record.request_id = request_id()
    record.trace_id = telemetry.current().trace_id
    return True


class Lines(logging.Formatter):
    """Time, level, logger, message and the id of the request; a message cannot add a line or a colour."""

    def format(self, record: logging.LogRecord) -> str:
        id = getattr(record, "request_id", "")
        line = f"{_time(record)} {record.levelname:<7} {record.name}: {printable(record.getMessage())}"
        line = " ".join(line.split("\n")) + (f" [{id}]" if id else "")
        return "\n".join(filter(None, (line, _traceback(self, record))))


class JsonLines(logging.Formatter):
    """The same as JSON: `time`, `level`, `logger`, `message`, `request_id`; of a request also its figures."""

    def format(self, record: logging.LogRecord) -> str:
        values: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", "") or None,
            **getattr(record, "values", {}),
        }
        if trace_id := getattr(record, "trace_id", ""):
            values["trace_id"] = trace_id
        if traceback := _traceback(self, record):
            values["exception"] = traceback
        return json.dumps(values)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""
