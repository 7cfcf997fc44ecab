"""The documents as resources, `citekite://documents/{id}`: those of the collection that the caller uses by default."""

from __future__ import annotations

from urllib.parse import quote, unquote

from mcp_types import (
    ListResourcesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from citekite.errors import SettingsError, UnknownDocument
from citekite.serve.mcp.library import Knowledge

PREFIX = "citekite://documents/"
PAGE = 200
# A resource comes whole; past this it is for the tool that reads line by line.
LONGEST_RESOURCE = 1_000_000

TEMPLATE = ResourceTemplate(
    name="document",
    title="A document",
    uri_template=PREFIX + "{id}",
    description="The text of a document of the knowledge base, by the id that its tools tell.",
    mime_type="text/plain",
)


def list_resources(kb: Knowledge, cursor: str | None) -> ListResourcesResult:
    """A page of the documents; `cursor` is the number of the first one."""
    if cursor is not None and not cursor.isdecimal():
        raise SettingsError(f"there is no page {cursor!r} of the documents: leave the cursor out for the first one")
    first = int(cursor or 0)
    documents = kb.documents()
    page = [
        Resource(
            uri=PREFIX + quote(one.id, safe=""),
            name=one.title or one.source,
            description=f"{one.source}, {one.chunks} chunks",
            mime_type="text/plain",
        )
        for one in documents[first : first + PAGE]
    ]
    rest = first + PAGE < len(documents)
    return ListResourcesResult(resources=page, next_cursor=str(first + PAGE) if rest else None)


def read_resource(kb: Knowledge, uri: str) -> ReadResourceResult:
    """The text of a document; raises `UnknownDocument`."""
    if not uri.startswith(PREFIX):
        raise UnknownDocument(f"there is no resource {uri!r}: a document is {TEMPLATE.uri_template}")
    document = kb.document(unquote(uri.removeprefix(PREFIX)))
    if len(document.text) > LONGEST_RESOURCE:
        raise SettingsError(
            f"{document.source!r} has {len(document.text):,} characters, too many for a resource: "
            "the tool get_document reads it by line ranges"
        )
    contents = TextResourceContents(uri=uri, text=document.text, mime_type="text/plain")
    return ReadResourceResult(contents=[contents])
