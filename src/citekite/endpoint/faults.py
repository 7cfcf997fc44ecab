"""What went wrong at a model endpoint, in our errors: what, at which address, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from citekite.errors import (
    EndpointDenied,
    EndpointError,
    EndpointReply,
    EndpointUnavailable,
    ModelNotFound,
    RequestRefused,
)
from citekite.retry import Transient, retry_after

LONGEST_QUOTE = 300
LISTED_MODELS = 10

# An address at which nothing ever answered is more likely wrong than busy: not worth the whole retry budget.
FIRST_CONTACT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Context:
    """What an explanation needs to know of the endpoint; the key only to mask it."""

    address: str
    key: str = field(repr=False)
    key_names: str
    timeout: float
    listed_models: Callable[[], list[str] | EndpointError]

    def clip(self, text: object) -> str:
        """What the endpoint or the SDK said, on one line, without the key, 300 characters at most."""
        line = " ".join(str(text).split()).rstrip(".")
        if self.key:
            line = line.replace(self.key, "***")
        return line if len(line) <= LONGEST_QUOTE else line[: LONGEST_QUOTE - 1] + "…"


_CHECK_MODEL = (
    "Check `base_url`, the model and its `dimensions` (`citekite reindex` embeds a collection anew with others), or "
    "try again later."
)


def explain(
    error: Exception, context: Context, model: str | None, setting: str | None, answered: bool
) -> EndpointError | Transient:
    """The error to raise for one of the SDK, or for a `ValueError` about a reply; `Transient` where retrying may help.

    `setting` is the one that names the model; `answered` is whether the endpoint ever answered before.
    """
    import openai

    if isinstance(error, openai.APIStatusError):
        return _explain_status(error, context, model, setting)
    if isinstance(error, openai.APIConnectionError):
        return _explain_connection(error, context, answered)
    if isinstance(error, openai.APIError):
        # an error sent as an event of a stream
        unavailable = EndpointUnavailable(f"the endpoint {context.address} reported: {context.clip(error)}")
        return Transient(unavailable, "Try again later.")
    reply = EndpointReply(f"the endpoint {context.address} sent a reply that cannot be used: {context.clip(error)}")
    return Transient(reply, _CHECK_MODEL)


def model_setting(setting: str | None, model: str, listed: list[str] | EndpointError) -> str:
    """Which models there are, names close to `model` first, and which setting chooses one (None: none does)."""
    if isinstance(listed, EndpointError):
        there = f"Its list of models cannot be read either ({str(listed).rstrip('.')})."
    elif not listed:
        there = "It lists no models."
    else:
        names = difflib.get_close_matches(model, listed, LISTED_MODELS, cutoff=0.0)
        there = f"It lists: {', '.join(names)}{' and others' if len(listed) > len(names) else ''}."
    if setting is None:
        return there
    return f"{there} Set `{setting}` (--{setting.replace('_', '-')}, CITEKITE_{setting.upper()})."


def readable_address(base_url: str) -> str:
    """A base URL without the name and password that it may hold.

    >>> readable_address("https://me:secret@example.org/v1/")
    'https://example.org/v1'
    """
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def _explain_status(error: Any, context: Context, model: str | None, setting: str | None) -> EndpointError | Transient:
    status: int = error.status_code
    said = _said(error, context)
    answered = f"the endpoint {context.address} answered {status}{': ' + said if said else ''}"
    if status in (401, 403):
        check = f"Check the key in {context.key_names}" if context.key else f"No key is set: set {context.key_names}"
        return EndpointDenied(f"{answered}. {check}.")
    if status in (402, 412) or (status == 429 and "insufficient_quota" in _body(error)):
        return EndpointDenied(f"{answered}. The account behind the key in {context.key_names} cannot pay for this.")
    if status == 404 or "model_not_found" in _body(error):
        return _unknown_model(answered, context, model, setting)
    if status in (408, 429) or status >= 500:
        pause = retry_after(error.response.headers)
        overload = status == 429 or (status == 503 and pause is not None)
        return Transient(EndpointUnavailable(answered), "Try again later.", retry_after=pause, overload=overload)
    return RequestRefused(f"{answered}.")


def _unknown_model(answered: str, context: Context, model: str | None, setting: str | None) -> ModelNotFound:
    if model is None:
        return ModelNotFound(f"{answered}. Check `base_url`.")
    missing = (
        f"the endpoint {context.address} does not serve the model {model!r} ({answered.partition(' answered ')[2]})"
    )
    return ModelNotFound(f"{missing}. {model_setting(setting, model, context.listed_models())}")


def _explain_connection(error: Exception, context: Context, answered: bool) -> Transient:
    import httpx2

    cause = error.__cause__
    if isinstance(cause, httpx2.ReadTimeout):
        silent = EndpointUnavailable(f"the endpoint {context.address} sent nothing for {context.timeout:g} s")
        return Transient(silent, "Raise `timeout` if it is slow.")
    why = context.clip(f"{type(cause).__name__}: {cause}" if cause else error)
    unavailable = EndpointUnavailable(f"no connection to the endpoint {context.address}: {why}")
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout) and not answered:
        return Transient(unavailable, "Check `base_url`, and that it is running.", budget=FIRST_CONTACT_SECONDS)
    return Transient(unavailable, "Try again later.")


def _said(error: Any, context: Context) -> str:
    """The endpoint's own words: the message of its JSON, or its text."""
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict):
            inner = inner.get("message") or inner.get("detail") or inner
        return context.clip(inner)
    return context.clip(body or "")


def _body(error: Any) -> str:
    return str(error.body).lower()
