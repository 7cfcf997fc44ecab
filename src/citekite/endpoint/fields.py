"""Fields of a request that an endpoint may refuse, and that are left out from then on."""

from __future__ import annotations

import re
from typing import Any

Body = dict[str, Any]

# What a 400 or 422 then says. A temperature that is merely out of range is the user's to mend; one that the model does
# not know at all (reasoning models) is left out.
_UNKNOWN = r"unsupported|not support|only the default|unrecogni[sz]ed|unknown|unexpected|not permitted|deprecated|extra"
_REFUSALS = {
    "encoding_format": re.compile("encoding_format"),
    "stream_options": re.compile("stream_options"),
    "max_tokens": re.compile("max_completion_tokens"),
    "temperature": re.compile(rf"temperature.*({_UNKNOWN})|({_UNKNOWN}).*temperature", re.DOTALL),
}


class RefusedFields:
    """What one endpoint has refused, by model."""

    def __init__(self) -> None:
        self._refused: set[tuple[str, str]] = set()

    def fit(self, body: Body) -> Body:
        """The body without the fields that were refused for its model."""
        fitting = {field: value for field, value in body.items() if (body["model"], field) not in self._refused}
        if "max_tokens" in body and "max_tokens" not in fitting:
            fitting["max_completion_tokens"] = body["max_tokens"]
        return fitting

    def learn(self, body: Body, error: Exception) -> bool:
        """Whether the error says that a field we can do without is not taken; remembers it."""
        if getattr(error, "status_code", None) not in (400, 422):
            return False
        said = f"{error} {getattr(error, 'body', '')}".lower()
        refused = {(body["model"], field) for field, text in _REFUSALS.items() if field in body and text.search(said)}
        self._refused |= refused
        return bool(refused)
