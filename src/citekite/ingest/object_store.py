"""Sources in object stores and on other file systems that fsspec knows: `s3://bucket/docs`, `gs://`, `abfs://`.

fsspec names a file system by the scheme of the URL (https://filesystem-spec.readthedocs.io). Its chained URLs
(`zip::s3://...`) are not taken: a URL stands for one place, and nothing else is opened on its behalf.
"""

from __future__ import annotations

import functools
import posixpath
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, cast

from citekite.errors import CitekiteError, DocumentError, SourceError, importing
from citekite.ingest.archive import Archive, too_large
from citekite.ingest.base import MEGABYTE, LoadOptions, SourceFile
from citekite.ingest.formats import suffix_of
from citekite.ingest.walk import Entry, chooser, walk
from citekite.reports import Failure

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_PIECE = 1 << 20
_IN_MEMORY = 4 * MEGABYTE

# Names of file systems of fsspec that stand for no place of their own: they read through another one.
_WRAPPERS = """
    async_wrapper asyncwrapper asynclocal blockcache cached dask data dir filecache generic libarchive reference
    simplecache tar zip
"""


@dataclass(frozen=True, slots=True)
class _Provider:
    """The package that reads one kind of store, the extra that brings it, and the variables by which it is reached."""

    package: str
    extra: str
    variables: str


_S3 = _Provider(
    "s3fs",
    "s3",
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or FSSPEC_S3_ANON=true for a public bucket; "
    "AWS_ENDPOINT_URL for a store that is not Amazon's",
)
_GS = _Provider("gcsfs", "gs", "GOOGLE_APPLICATION_CREDENTIALS, or FSSPEC_GS_TOKEN=anon for a public bucket")
_AZURE = _Provider(
    "adlfs", "azure", "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
)
_PROVIDERS = {"s3": _S3, "s3a": _S3, "gs": _GS, "gcs": _GS, "abfs": _AZURE, "abfss": _AZURE, "az": _AZURE}


def normalise_object_url(url: str) -> str:
    """A URL of fsspec without slashes at its end, its scheme in lower case; raises `SourceError`.

    >>> normalise_object_url("S3://bucket/docs/")
    's3://bucket/docs'
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    user, _, host = rest.partition("/")[0].rpartition("@")
    if ":" in user and scheme != "github":  # where it parts owner and repository
        raise SourceError(
            f"the {scheme} URL of {host!r} has a password in it; citekite keeps sources as they are given, so give the "
            "password as the file system's own variables or settings take it"
        )
    if scheme in _WRAPPERS.split():
        raise SourceError(f"{url!r} is read through another file system: give the URL of the place itself")
    if "\0" in rest or not rest.strip("/"):
        raise SourceError(f"{url!r} names no bucket, container or host")
    return f"{scheme}://{rest.rstrip('/')}"


def find_objects(url: str, options: LoadOptions) -> Iterator[SourceFile | Failure]:
    """The files below a URL, or the object or the members of the archive that it names.

    Names, `.gitignore` objects, `include` and `exclude` count as in a folder of this machine.
    """
    with _translated(url):
        store, path = _opened(url)
        store.invalidate_cache()  # of listings: fsspec keeps file systems for the life of the process
        found = store.info(path)
    if found["type"] == "directory":
        yield from walk(_ObjectTree(store, path.rstrip("/"), url, options), options)
        return
    try:
        yield from _files_of(url, found.get("size"), options)
    except DocumentError as error:
        raise SourceError(f"{url!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class _ObjectTree:
    """What lies below a URL, by the parts of its names."""

    store: AbstractFileSystem
    root: str
    url: str
    options: LoadOptions

    def entries(self, folder: str) -> Iterator[Entry]:
        path = f"{self.root}/{folder}".rstrip("/")
        with _translated(self.source_of(folder), DocumentError):
            listed = self.store.ls(path, detail=True)
        for found in listed:
            if found["name"].strip("/") == path.strip("/"):  # an empty object that stands for the folder
                continue
            name = posixpath.basename(found["name"].rstrip("/"))
            source = self.source_of(f"{folder}/{name}".lstrip("/"))
            is_folder = found["type"] == "directory"
            yield Entry(name, is_folder, functools.partial(_files_of, source, found.get("size"), self.options))

    def read_text(self, path: str) -> str:
        with _translated(self.source_of(path), DocumentError):
            data: bytes = self.store.cat_file(f"{self.root}/{path}")
        return data.decode("utf-8-sig", "surrogateescape")

    def source_of(self, path: str) -> str:
        return f"{self.url}/{path}".rstrip("/")


def _files_of(url: str, size: int | None, options: LoadOptions) -> Iterator[SourceFile | Failure]:
    name = posixpath.basename(url)
    if suffix_of(name) == ".zip":
        content = _download(url, size or 0, options.max_archive_bytes)
        yield from Archive(content, url, options).find_files(chooser(options))
    else:
        yield SourceFile(url, name, functools.partial(_read, url, size, options.max_file_bytes), is_remote=True)


def _read(url: str, size: int | None, limit: int) -> bytes:
    """The bytes of an object, which are read only if it was listed with no more than the limit."""
    if size is None or 0 < size <= limit:
        with _translated(url, DocumentError):
            store, path = _opened(url)
            data: bytes = store.cat_file(path, end=limit + 1)  # bounded: it may have grown since
        size = len(data)
    if size > limit:
        raise DocumentError(too_large(size, limit))
    if not size:
        raise DocumentError("it is empty")
    return data


def _download(url: str, size: int, limit: int) -> IO[bytes]:
    """An archive as a temporary file, because what reads it goes back and forth; the caller closes it."""
    content = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the caller closes it
    try:
        with _translated(url, DocumentError):
            store, path = _opened(url)
            if size <= limit:
                with store.open(path, "rb") as file:
                    while size <= limit and (piece := file.read(_PIECE)):
                        size = max(size, content.tell() + content.write(piece))
        if size > limit:
            raise DocumentError(f"it has more than max_archive_mb allows, which is {limit / MEGABYTE:g} MB")
    except BaseException:
        content.close()
        raise
    content.seek(0)
    return cast("IO[bytes]", content)


def _opened(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL, which fsspec keeps and any thread may use, and the URL's path in it."""
    from fsspec import get_filesystem_class

    scheme = url.partition("://")[0]
    if (provider := _PROVIDERS.get(scheme)) is not None:
        with importing(provider.package, provider.extra, f"reading {scheme}:// sources"):
            import_module(provider.package)
    try:
        kind: Any = get_filesystem_class(scheme)
    except ValueError:
        raise SourceError(
            f"{url!r} cannot be read: no file system is known for {scheme}://; a source is a path, an http(s) URL, or "
            "a URL such as s3://bucket/docs"
        ) from None
    # Not `url_to_fs`, which would take `::` in a name for the start of another URL.
    return kind(**kind._get_kwargs_from_urls(url)), kind._strip_protocol(url)


@contextmanager
def _translated(url: str, kind: type[SourceError] = SourceError) -> Iterator[None]:
    """Raise what goes wrong as a `SourceError` that names the source, or as a `DocumentError`, shown beside it."""
    it = "it" if kind is DocumentError else repr(url)
    try:
        yield
    except CitekiteError:
        raise
    except FileNotFoundError as error:
        raise kind(f"{it} is not there: look at the spelling, and whether it was deleted") from error
    except Exception as error:  # each file system has errors of its own
        said = " ".join(f"{type(error).__name__}: {error}".split())
        provider = _PROVIDERS.get(url.partition("://")[0])
        advice = f"; it is reached with {provider.variables}" if provider else ""
        raise kind(f"{it} cannot be read ({said}){advice}") from error
