"""Copying a collection from one database to another, each Milvus Lite, a Milvus server or Zilliz Cloud."""

from __future__ import annotations

from citekite.errors import SettingsError
from citekite.ports import Reporter
from citekite.reports import TransferReport
from citekite.settings import Settings
from citekite.store.milvus import MilvusStore
from citekite.transfer.fill import fill
from citekite.transfer.origin import open_origin


def copy_collection(settings: Settings, source: str, name: str, *, replacing: bool, report: Reporter) -> TransferReport:
    """Copy the collection of the settings from the database `source` to that of the settings, where it is `name`.

    The source is opened with `source_token` and `source_database`: the token of one server is never sent to another.
    Raises what `fill` raises.
    """
    token = settings.source_token.get_secret_value() if settings.source_token else ""
    origin_store = MilvusStore(
        source,
        token=token,
        database=settings.source_database,
        consistency=settings.consistency,
        patience=settings.store_seconds,
    )
    with origin_store, MilvusStore.from_settings(settings) as store:
        same = (origin_store.path or source, settings.source_database) == (store.path or store.uri, settings.database)
        if same and name == settings.collection:
            raise SettingsError(f"{name!r} would be copied onto itself: give --to-collection another name")
        return fill(open_origin(origin_store, settings.collection), store, name, replacing=replacing, report=report)
