"""The lowest reads of a collection, and the one place that keeps a reader to what his groups may see.

Every read of chunks goes through `Rows`. For a reader of certain groups the condition on the access list is part of
every filter that Milvus evaluates, and each row that comes back is looked at again here; neither check trusts the
other. A read by id has no filter: there the look at the row is all, and it is exact. Of an access list a reader sees
his own groups alone.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from citekite.access import AccessList
from citekite.errors import FilterError
from citekite.retrieve.filter import quote, whole
from citekite.store.faults import translated

# The most a server returns at once (https://milvus.io/docs/limitations.md).
READ_ROWS = 16_000
# The most rows with texts or vectors that a server returns at once: its answer may have 100 MB
# (quotaAndLimits.limits.maxOutputSize). The embedded database has no such limit, and each page costs it a look at every
# row.
WIDE_ROWS = 1_000
WIDE_FIELDS = frozenset({"text", "dense"})
# Rows that are read by id with one request.
GET_ROWS = 512

ACCESS = "access"
Row = Mapping[str, Any]
Scored = list[tuple[str, float]]

# A document for everyone has this in the field `access`, any other one its groups between bars: |hr|legal|. An array
# would be plainer, but Milvus Lite takes 25 µs for each row to look into one, and none to compare text
# (docs/access.md). `like` reads _ as any character, and no name of a group has a ~.
_PUBLIC = "*"
_ENCODED = str.maketrans("_", "~")
_DECODED = str.maketrans("~", "_")
_FIELD = re.compile(rf"\b{ACCESS}\b")
_QUOTED = re.compile(r"""(["'])(?:(?!\1).)*\1""", re.DOTALL)


def to_field(access: AccessList) -> str:
    """What the field `access` holds for an access list.

    >>> to_field(("hr", "board_2")), to_field(())
    ('|hr|board~2|', '*')
    """
    return f"|{'|'.join(access)}|".translate(_ENCODED) if access else _PUBLIC


def from_field(stored: str) -> AccessList:
    """The access list in the field."""
    return () if stored == _PUBLIC else tuple(stored.translate(_DECODED).strip("|").split("|"))


class Reader:
    """Someone who sees the documents for everyone and those of his groups."""

    def __init__(self, groups: Iterable[str]) -> None:
        self.groups = frozenset(groups)
        self.key = to_field(tuple(sorted(self.groups)))

    def narrowed(self, filter: str) -> str:
        """The filter for what the reader may see and `filter` admits; no filter can get out of its brackets."""
        parts = [f"{ACCESS} == {quote(_PUBLIC)}"]
        parts += [f"{ACCESS} like {quote(f'%{to_field((group,))}%')}" for group in sorted(self.groups)]
        condition = f"({' or '.join(parts)})"
        return f"{condition} and ({whole(filter)})" if filter.strip() else condition

    def admits(self, row: Row) -> bool:
        """Whether the reader may see a row, by what is stored in it."""
        return self.sees(from_field(row[ACCESS]))

    def sees(self, access: AccessList) -> bool:
        """Whether the reader may see a document with this access list."""
        return not access or not self.groups.isdisjoint(access)

    def shown(self, row: Row) -> Row:
        """The row, its access list cut to the reader's own groups: whom else it is for is not for him to know."""
        access = from_field(row[ACCESS])
        own = tuple(group for group in access if group in self.groups)
        return row if own == access else {**row, ACCESS: to_field(own)}

    def check_asked(self, filter: str) -> None:
        """Raise `FilterError` for a filter of the user's that looks at access lists, which `shown` hides in part.

        With a backslash in it, nobody can be sure where a text in it ends, and it is looked at as a whole.
        """
        if _FIELD.search(filter if "\\" in filter else _QUOTED.sub('""', filter)):
            raise FilterError(f"a filter cannot look at the field {ACCESS!r}: what you may see is seen to")


class Rows:
    """Searches, scans and reads by id in one collection, of what `reader` may see (None: everything).

    Every method raises `StoreError`; filters are Milvus expressions.
    """

    def __init__(
        self,
        client: Any,
        uri: str,
        physical: str,
        consistency: str,
        *,
        wide_rows: int = WIDE_ROWS,
        reader: Reader | None = None,
    ) -> None:
        self.client = client
        self._uri = uri
        self._physical = physical
        self._consistency = consistency
        self._wide_rows = wide_rows
        self.reader = reader

    def restricted_to(self, groups: Iterable[str]) -> Rows:
        """The same for a reader of these groups; of those groups only that this one sees already."""
        groups = frozenset(groups) if self.reader is None else self.reader.groups.intersection(groups)
        view = copy.copy(self)
        view.reader = Reader(groups)
        return view

    @property
    def key(self) -> str:
        """What tells readers apart that see different things; empty for who sees everything."""
        return "" if self.reader is None else self.reader.key

    def count(self) -> int:
        """The number of rows."""
        if self.reader is not None:
            return sum(1 for _ in self.scan("", ("id",)))  # one by one, because each is checked
        with translated("counting chunks", self._uri):
            rows = self.client.query(
                self._physical, filter="", output_fields=["count(*)"], consistency_level=self._consistency
            )
        return int(rows[0]["count(*)"])

    def search(self, data: Any, vector_field: str, metric: str, limit: int, filter: str) -> Scored:
        """The best rows for a vector or text as (id, score), best first; the filter is the user's."""
        with translated("searching", self._uri, filter=filter or None):
            found = self.client.search(
                self._physical,
                data=[data],
                anns_field=vector_field,
                search_params={"metric_type": metric},
                limit=limit,
                filter=self._narrowed(filter, asked=True),
                output_fields=self._with_access(("id",)),
                consistency_level=self._consistency,
            )
        hits = [hit for hit in found[0] if self._admits(hit["entity"])]
        # Milvus Lite gives BM25 scores a minus sign; sorting makes ties independent of the server's order.
        scored = [
            (str(hit["id"]), abs(hit["distance"]) if metric == "BM25" else float(hit["distance"])) for hit in hits
        ]
        return sorted(scored, key=lambda hit: (-hit[1], hit[0]))

    def scan(self, filter: str, fields: Sequence[str], *, asked: bool = False) -> Iterator[Row]:
        """The named fields of all rows that match, page by page; `asked` tells that the user wrote the filter."""
        with translated("reading rows", self._uri, filter=filter if asked else None):
            iterator = self.client.query_iterator(
                self._physical,
                batch_size=READ_ROWS if WIDE_FIELDS.isdisjoint(fields) else self._wide_rows,
                filter=self._narrowed(filter, asked=asked),
                output_fields=self._with_access(fields),
                consistency_level=self._consistency,
            )
        try:
            while True:
                with translated("reading rows", self._uri):
                    page = iterator.next()
                if not page:
                    return
                yield from self._seen(page)
        finally:
            iterator.close()

    def get(self, ids: Sequence[str], fields: Sequence[str], consistency: str | None = None) -> dict[str, Row]:
        """The named fields of the rows with these ids, by id.

        Without the condition on the access list, also for a reader: with it Milvus Lite looks through the whole
        collection (11 ms with 8,000 chunks, and more with more), by the primary key alone it does not (2 to 3 ms,
        however many). Nothing is found here, since whoever asks knows the ids, and what is not his the look at the row
        holds back.
        """
        rows: dict[str, Row] = {}
        for start in range(0, len(ids), GET_ROWS):
            with translated("reading rows", self._uri):
                # The client's own `get` puts the ids between quotation marks as they are, whatever is in them.
                found = self.client.query(
                    self._physical,
                    filter=f"id in [{', '.join(map(quote, ids[start : start + GET_ROWS]))}]",
                    output_fields=self._with_access(fields),
                    consistency_level=consistency or self._consistency,
                )
            rows.update((row["id"], row) for row in self._seen(found))
        return rows

    def _narrowed(self, filter: str, *, asked: bool) -> str:
        if self.reader is None:
            return filter
        if asked:
            self.reader.check_asked(filter)
        return self.reader.narrowed(filter)

    def _with_access(self, fields: Sequence[str]) -> list[str]:
        return list(fields) if self.reader is None else list(dict.fromkeys((*fields, ACCESS)))

    def _admits(self, row: Row) -> bool:
        return self.reader is None or self.reader.admits(row)

    def _seen(self, rows: Iterable[Row]) -> Iterable[Row]:
        """Those of the rows that the reader may see, as he sees them."""
        return rows if self.reader is None else [self.reader.shown(row) for row in rows if self.reader.admits(row)]
