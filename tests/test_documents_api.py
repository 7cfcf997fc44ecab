"""Documents, uploads, collections and reports over HTTP: a real server, a real database, real files."""

from __future__ import annotations

import asyncio
import http.server
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from citekite.errors import UnknownCollection
from citekite.serve.app import create_app
from citekite.serve.examples import JOB
from citekite.serve.principal import OWNER
from citekite.serve.service import MOST_UNOPENED, Service
from citekite.settings import Settings
from citekite.store.embedded import lock_holder
from commands import citekite
from served import serving, wait_for
from stored import write

DOCS = Path(__file__).parent.parent / "docs"
KITES = b"# Kites\n\nThe red kite has a forked tail.\n"
OWLS = b"# Owls\n\nThe barn owl hunts voles at night.\n"


def last_write(api: Api) -> dict[str, Any]:
    """The last line of the audit log."""
    line: dict[str, Any] = json.loads((api.home / "audit.jsonl").read_text().splitlines()[-1])
    return line


class Api:
    """A client of one server, as the holder of a key."""

    def __init__(self, address: str, home: Path, keys: dict[str, str], name: str = "local") -> None:
        self.address, self.home, self.keys = address, home, keys
        headers = {"Authorization": f"Bearer {keys[name]}"} if keys else {}
        self.client = httpx2.Client(base_url=f"{address}/api/v1", timeout=30, headers=headers)

    def upload(self, *files: tuple[str, bytes], **fields: Any) -> httpx2.Response:
        return self.client.post("/documents", files=[("files", file) for file in files], data=fields)

    def ended(self, response: httpx2.Response) -> dict[str, Any]:
        """The job that a response began, when it has ended."""
        assert response.status_code == 202, response.text
        with self.client.stream("GET", f"/jobs/{response.json()['id']}/events") as stream:
            last = "".join(stream.iter_text()).rstrip().rpartition("event: Finished\ndata: ")[2]
        job: dict[str, Any] = json.loads(last)["job"]
        return job

    def documents(self, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get("/documents", params=query).json().get("documents", [])
        return found

    def id_of(self, source: str, **query: Any) -> str:
        return next(one["id"] for one in self.documents(**query) if one["source"] == source)

    def sources(self, **query: Any) -> list[str]:
        return [one["source"] for one in self.documents(**query)]

    def files(self, collection: str = "citekite") -> list[str]:
        folder = self.home / "uploads" / collection
        return sorted(
            file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file() and file.name[0] != "."
        )


KEYS: dict[str, dict[str, Any]] = {
    "reader": {"scope": "read"},
    "writer": {"scope": "write"},
    "hr": {"scope": "write", "groups": ("hr", "staff")},
    "legal": {"scope": "write", "groups": ("legal",)},
    "handbook": {"scope": "admin", "collections": ("handbook",)},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, dict[str, str]]]:
    """The address of a server, its folder, and its keys by name; `local` is that of whoever runs it."""
    folder = tmp_path_factory.mktemp("served")
    settings = Settings(
        uri=str(folder / "docs.db"),
        embedder="static",
        max_upload_mb=2,
        max_file_mb=1,
        max_archive_mb=3,
        allow_private_urls=True,
        requests_per_minute=100_000,
    )
    app = create_app(settings)
    service = app.state.service
    keys = {name: service.keys.create(name, **values)[1] for name, values in KEYS.items()}
    with serving(settings, app) as address:
        yield address, folder / "docs.db.serve", {**keys, "local": service.local_token}


@pytest.fixture
def api(served: tuple[str, Path, dict[str, str]]) -> Api:
    """The API of a server whose default collection is as good as new."""
    api = Api(*served)
    if api.client.get("/status").status_code == 200:
        assert api.client.delete("/collections/citekite").status_code == 204
    return api


def as_key(api: Api, name: str) -> Api:
    return Api(api.address, api.home, api.keys, name)


def zipped(**members: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(f"{name}.md", text)
    return content.getvalue()


def test_an_upload_is_searchable_readable_and_handed_out_again(api: Api) -> None:
    job = api.ended(api.upload(("Kites.md", KITES)))

    assert (job["kind"], job["state"], job["key"]) == ("upload", "done", "local")
    assert job["report"]["new"] == 1
    assert job["report"]["failures"] == []
    assert job["created"] <= job["started"] <= job["ended"]
    hit = api.client.post("/search", json={"question": "forked tail"}).json()["hits"][0]
    assert hit["source"] == "upload://shared/Kites.md"
    document = api.client.get(f"/documents/{hit['document_id']}").json()
    assert document["text"] == KITES.decode().strip()
    original = api.client.get(f"/documents/{hit['document_id']}/original")
    assert original.content == KITES
    assert original.headers["content-disposition"] == 'attachment; filename="Kites.md"'
    assert original.headers["content-type"] == "text/markdown; charset=utf-8"
    assert original.headers["x-content-type-options"] == "nosniff"
    assert original.headers["content-security-policy"].startswith("sandbox")


def test_progress_comes_before_the_end_and_a_late_follower_gets_the_end_alone(api: Api) -> None:
    started = api.upload(("kites.md", KITES))
    with api.client.stream("GET", f"/jobs/{started.json()['id']}/events") as stream:
        first = "".join(stream.iter_text())
    with api.client.stream("GET", f"/jobs/{started.json()['id']}/events") as stream:
        late = "".join(stream.iter_text())

    names = [line.removeprefix("event: ") for line in first.splitlines() if line.startswith("event: ")]
    assert names[-1] == "Finished"
    assert set(names[:-1]) <= {"Progress"}
    assert late.startswith("event: Finished\n")
    assert late.count("event: ") == 1


def test_the_same_name_again_replaces_the_document(api: Api) -> None:
    api.ended(api.upload(("a.md", KITES)))
    job = api.ended(api.upload(("a.md", OWLS)))

    assert job["report"]["changed"] == 1
    assert api.sources() == ["upload://shared/a.md"]
    assert api.files() == ["shared/a.md"]
    assert api.client.get(f"/documents/{api.id_of('upload://shared/a.md')}/original").content == OWLS


def test_two_files_of_one_name_in_one_request_are_both_kept(api: Api) -> None:
    job = api.ended(api.upload(("one/a.md", KITES), ("two\\A.md", OWLS)))

    assert job["sources"] == ["upload://shared/a.md", "upload://shared/A-2.md"]
    assert sorted(api.sources()) == ["upload://shared/A-2.md", "upload://shared/a.md"]


def test_a_file_without_text_fails_with_the_reason_and_is_not_left_behind(api: Api) -> None:
    job = api.ended(api.upload(("empty.md", b"   \n")))
    mixed = api.ended(api.upload(("kites.md", KITES), ("empty.md", b"   \n")))

    assert (job["state"], job["problem"]["title"]) == ("failed", "DocumentError")
    assert "no text" in job["problem"]["detail"]
    assert mixed["state"] == "done"
    assert [failure["source"] for failure in mixed["report"]["failures"]] == ["upload://shared/empty.md"]
    assert api.files() == ["shared/kites.md"]
    assert api.sources() == ["upload://shared/kites.md"]


def test_a_replacement_that_fails_leaves_the_document_and_its_file_as_they_were(api: Api) -> None:
    api.ended(api.upload(("a.md", KITES)))
    job = api.ended(api.upload(("a.md", b"  ")))

    assert job["state"] == "failed"
    assert api.client.get(f"/documents/{api.id_of('upload://shared/a.md')}/original").content == KITES


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        ([("report.pdf", b"\x7fELF\x01\0")], 422, "a program"),
        ([("good.md", KITES), ("report.pdf", b"<html><script>")], 422, "an HTML page"),
        ([("big.md", b"x" * 1_100_000)], 413, "max_file_mb"),
        ([("a.md", b"x" * 900_000), ("b.md", b"x" * 900_000), ("c.md", b"x" * 900_000)], 413, "larger than 2 MB"),
        ([("bomb.zip", zipped(a="0" * 2_500_000))], 422, "zip bomb"),
        ([("large.zip", zipped(a="0" * 1_600_000, b="1" * 1_600_000))], 422, "max_archive_mb"),
        ([("none.md", b"")], 422, "empty"),
    ],
)
def test_what_is_refused_is_refused_at_once_with_the_reason(
    api: Api, files: list[tuple[str, bytes]], status: int, words: str
) -> None:
    response = api.upload(*files)

    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert words in response.json()["detail"]
    assert api.files() == []
    assert not list((api.home / "uploads").glob(".staged/*"))


def test_a_form_without_files_or_with_foreign_fields_is_refused(api: Api) -> None:
    assert api.client.post("/documents", json={}).status_code == 400
    assert api.client.post("/documents", data={"access": "hr"}, files=[("x", ("a.md", KITES))]).status_code == 400
    assert api.upload(("a.md", KITES), collection="no/name").status_code == 400
    broken = {"content-type": "multipart/form-data"}
    assert api.client.post("/documents", content=b"--x", headers=broken).status_code == 400


def test_members_of_an_archive_go_one_by_one_and_the_file_with_the_last(api: Api) -> None:
    api.ended(api.upload(("birds.zip", zipped(kites=KITES.decode(), owls=OWLS.decode()))))
    sources = api.sources()
    assert sources == ["upload://shared/birds.zip!/kites.md", "upload://shared/birds.zip!/owls.md"]

    assert api.client.delete(f"/documents/{api.id_of(sources[0])}").json() == {"chunks": 1}
    assert api.files() == ["shared/birds.zip"]
    assert api.client.get(f"/documents/{api.id_of(sources[1])}/original").headers["content-type"] == "application/zip"
    assert api.client.delete(f"/documents/{api.id_of(sources[1])}").json() == {"chunks": 1}
    assert api.files() == []
    assert api.sources() == []


def test_the_audit_log_names_what_was_changed(api: Api) -> None:
    api.ended(api.client.post("/documents/sample"))
    assert last_write(api)["target"].startswith("upload://shared/")
    api.ended(api.upload(("a.md", KITES)))
    assert (last_write(api)["action"], last_write(api)["target"]) == ("upload", "upload://shared/a.md")
    api.client.delete(f"/documents/{api.id_of('upload://shared/a.md')}")
    assert (last_write(api)["action"], last_write(api)["target"]) == ("delete document", "upload://shared/a.md")
    api.client.post("/collections", json={"name": "citekite"})
    assert (last_write(api)["target"], last_write(api)["outcome"]) == ("citekite", 409)


def test_a_name_in_any_script_is_kept(api: Api) -> None:
    api.ended(api.upload(("风筝.md", KITES)))

    id = api.id_of("upload://shared/风筝.md")
    assert api.files() == ["shared/风筝.md"]
    disposition = api.client.get(f"/documents/{id}/original").headers["content-disposition"]
    assert disposition == "attachment; filename*=utf-8''%E9%A3%8E%E7%AD%9D.md"


def test_an_upload_that_breaks_off_leaves_nothing_behind(api: Api) -> None:
    def temporary() -> set[str]:
        found = {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
        return {name for name in found if name.startswith(f"{tempfile.gettempdir()}/#")}

    before = temporary()
    with closing(socket.create_connection(("127.0.0.1", int(api.address.rpartition(":")[2])))) as client:
        client.sendall(
            f"POST /api/v1/documents HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {api.keys['local']}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1900000\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="files"; filename="a.md"\r\n\r\n'.encode()
            + b"a" * 1_500_000
        )
        wait_for(lambda: temporary() > before)
    wait_for(lambda: temporary() <= before)

    assert api.files() == []
    assert not list((api.home / "uploads").glob(".staged/*"))


def test_many_uploads_at_once_are_all_taken_in(api: Api) -> None:
    with ThreadPoolExecutor(20) as threads:
        started = list(threads.map(lambda number: api.upload((f"{number}.md", KITES)), range(20)))

    assert {response.status_code for response in started} == {202}
    assert {api.ended(response)["state"] for response in started} == {"done"}
    assert len(api.sources()) == 20


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_an_upload_for_which_there_is_no_room_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", small], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    values = Settings(uri=str(tmp_path / "docs.db"), embedder="static", data_dir=str(small / "home"))
    try:
        with serving(values) as address:
            api = Api(address, small / "home", {})
            refused = api.upload(("large.md", b"# Large\n\n" + b"x" * 3_000_000))
            job = api.ended(api.upload(("kites.md", KITES)))
    finally:
        subprocess.run(["umount", "-l", small], check=True)

    assert (refused.status_code, refused.json()["title"]) == (507, "DiskFull")
    assert "no space is left" in refused.json()["detail"]
    assert job["state"] == "done"


def test_a_folder_is_one_servers_alone(tmp_path: Path) -> None:
    values = {"embedder": "static", "data_dir": str(tmp_path / "home")}
    with serving(Settings(uri=str(tmp_path / "a.db"), **values)) as first:
        assert httpx2.get(f"{first}/api/v1/jobs").json() == {"jobs": []}
        with serving(Settings(uri=str(tmp_path / "b.db"), **values)) as second:
            refused = httpx2.get(f"{second}/api/v1/jobs").json()
        run = citekite(tmp_path, "serve", "--uri", "c.db", "--data-dir", "home", "--port", "0")
    with serving(Settings(uri=str(tmp_path / "b.db"), **values)) as second:
        assert httpx2.get(f"{second}/api/v1/jobs").status_code == 200

    assert (refused["title"], run.returncode) == ("ServerError", 8)
    for words in (refused["detail"], run.stderr):
        assert f"in use by another server (process {os.getpid()}): give this one its own (--data-dir)" in words


def test_the_server_tells_what_it_is(api: Api, tmp_path: Path) -> None:
    own = as_key(api, "handbook").client.get("/me").json()
    assert (own["keys_required"], own["model"], own["collection"]) == (True, "", "handbook")
    assert own["embedder"].startswith("static:")

    values = Settings(uri=str(tmp_path / "a.db"), base_url="http://127.0.0.1:1/v1", model="writer", embedding_model="e")
    with serving(values) as address:
        me = httpx2.get(f"{address}/api/v1/me").json()
    assert (me["keys_required"], me["model"], me["embedder"]) == (False, "writer", "api:e")


def test_a_key_for_one_collection_hears_of_no_other(api: Api) -> None:
    own = as_key(api, "handbook").client
    api.ended(api.upload(("a.md", KITES)))
    assert own.post("/collections", json={"name": "other"}).status_code == 403
    assert own.post("/collections", json={"name": "handbook"}).status_code == 201

    assert own.get("/status").json()["collections"] == ["handbook"]
    assert api.client.get("/status").json()["collections"] == ["citekite", "handbook"]
    assert own.delete("/collections/handbook").status_code == 204


def test_names_that_no_collection_has_are_soon_forgotten(tmp_path: Path) -> None:
    service = Service(Settings(uri=str(tmp_path / "docs.db"), embedder="static"))
    real = service.knowledge_base(OWNER, "real")
    real.create()
    for number in range(MOST_UNOPENED + 10):
        with pytest.raises(UnknownCollection):
            service.knowledge_base(OWNER, f"made_up_{number}").count()

    assert len(service._others) == MOST_UNOPENED + 1
    assert service.knowledge_base(OWNER, "real") is real
    asyncio.run(service.close())
    assert lock_holder(tmp_path / "docs.db") is None


def test_an_unknown_document_is_not_found(api: Api) -> None:
    api.ended(api.upload(("a.md", KITES)))
    for method, path in (("GET", "/documents/x"), ("DELETE", "/documents/x"), ("GET", "/documents/x/original")):
        response = api.client.request(method, path)
        assert (response.status_code, response.json()["title"]) == (404, "UnknownDocument")


def test_documents_are_paged_and_looked_for(api: Api) -> None:
    api.ended(api.upload(("b.md", OWLS), ("a.md", KITES), ("c.md", b"# Eagles\n\nText.\n")))

    assert api.sources(offset=1, limit=1) == ["upload://shared/b.md"]
    assert api.sources(query="KITE") == ["upload://shared/a.md"]
    assert api.client.get("/documents", params={"query": "shared/", "limit": 1}).json()["total"] == 3
    assert api.client.get("/documents", params={"limit": 0}).status_code == 400


def test_lines_of_a_document_come_with_the_chunks_in_them(api: Api) -> None:
    api.ended(api.upload(("a.md", b"# A\n\nFirst.\n\n## B\n\nSecond.\n")))
    id = api.id_of("upload://shared/a.md")

    found = api.client.get(f"/documents/{id}", params={"first_line": 5, "last_line": 7}).json()
    assert (found["text"], found["first_line"], found["last_line"]) == ("## B\n\nSecond.", 5, 7)
    assert [chunk["headings"] for chunk in found["chunks"]] == [["A", "B"]]


def test_the_sample_library_answers_questions_about_kites(api: Api) -> None:
    job = api.ended(api.client.post("/documents/sample"))

    assert (job["kind"], job["state"], job["report"]["new"]) == ("sample", "done", 6)
    answer = api.client.post("/ask", json={"question": "What do red kites line their nest with?"}).json()
    assert answer["outcome"] == "answered"
    assert "wool" in answer["text"]


def test_a_page_of_the_web_is_taken_in(api: Api) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            table = self.path.endswith(".csv")
            self.send_response(200)
            self.send_header("Content-Type", "text/csv" if table else "text/html")
            self.end_headers()
            self.wfile.write(b"name,text\nkite,forked\nowl,round\n" if table else b"<h1>Eagles</h1><p>On cliffs.</p>")

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/eagles"
    job = api.ended(api.client.post("/documents/url", json={"url": url}))
    table = f"http://127.0.0.1:{server.server_port}/birds.csv"
    api.ended(api.client.post("/documents/url", json={"url": table}))
    server.shutdown()
    server.server_close()

    assert (job["kind"], job["state"]) == ("url", "done")
    rows = api.sources(query=".csv")
    assert len(rows) == 2
    assert api.client.delete(f"/documents/{api.id_of(rows[0])}").json() == {"chunks": 1}
    assert api.sources() == [rows[1], url]
    assert api.client.get(f"/documents/{api.id_of(url)}/original").status_code == 404
    assert api.client.post("/documents/url", json={"url": "file:///etc/passwd"}).status_code == 400


def test_an_address_that_is_not_public_is_refused_where_it_is_not_allowed(tmp_path: Path) -> None:
    with serving(Settings(uri=str(tmp_path / "a.db"), embedder="static")) as address:
        api = Api(address, tmp_path / "a.db.serve", {})
        job = api.ended(api.client.post("/documents/url", json={"url": "http://127.0.0.1:1/x"}))

    assert (job["state"], job["problem"]["title"]) == ("failed", "SourceError")
    assert "not public" in job["problem"]["detail"]


def test_paths_of_the_server_are_for_admins(api: Api, tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", {"a.md": KITES.decode(), "b.txt": "Owls.", "c.md": OWLS.decode()})
    body = {"sources": [str(folder)], "include": ["*.md"], "exclude": ["c.md"]}

    assert as_key(api, "reader").client.post("/jobs", json={"sources": ["https://example.org/"]}).status_code == 403
    assert api.ended(api.client.post("/jobs", json=body))["report"]["new"] == 1
    assert api.sources() == [str(folder / "a.md")]
    assert api.ended(api.client.post("/jobs", json={"sources": [str(folder)]}))["report"]["new"] == 2
    (folder / "a.md").unlink()
    pruned = api.ended(api.client.post("/jobs", json={"sources": [str(folder)], "prune": True}))
    assert pruned["report"]["pruned"] == 1
    missing = api.ended(api.client.post("/jobs", json={"sources": [str(tmp_path / "nothing")]}))
    assert (missing["state"], missing["problem"]["status"]) == ("failed", 422)


def test_a_reader_changes_nothing(api: Api) -> None:
    reader = as_key(api, "reader")

    for method, path, more in (
        ("POST", "/documents", {"files": [("files", ("a.md", KITES))]}),
        ("POST", "/documents/url", {"json": {"url": "http://example.org"}}),
        ("POST", "/documents/sample", {}),
        ("DELETE", "/documents/x", {}),
        ("POST", "/collections", {"json": {"name": "x"}}),
        ("DELETE", "/collections/x", {}),
    ):
        response = reader.client.request(method, path, **more)
        assert (response.status_code, response.json()["title"]) == (403, "AccessDenied"), path


def test_collections_are_made_used_and_deleted(api: Api) -> None:
    api.ended(api.upload(("a.md", KITES)))
    assert api.client.post("/collections", json={"name": "handbook"}).status_code == 201
    again = api.client.post("/collections", json={"name": "handbook"})
    assert (again.status_code, again.json()["title"]) == (409, "CollectionExists")

    assert api.sources(collection="handbook") == []
    assert api.client.post("/search", json={"question": "kite", "collection": "handbook"}).json()["hits"] == []
    answer = api.client.post("/ask", json={"question": "kite?", "collection": "handbook"})
    assert answer.json()["outcome"] == "no_evidence"
    api.ended(api.upload(("o.md", OWLS), collection="handbook"))
    assert api.client.get("/collections").json() == {
        "default": "citekite",
        "collections": [
            {"name": "citekite", "documents": 1, "chunks": 1},
            {"name": "handbook", "documents": 1, "chunks": 1},
        ],
    }
    own = as_key(api, "handbook")
    assert [one["name"] for one in own.client.get("/collections").json()["collections"]] == ["handbook"]
    assert own.client.get("/documents", params={"collection": "citekite"}).status_code == 403
    assert own.client.delete("/collections/citekite").status_code == 403

    assert own.client.delete("/collections/handbook").status_code == 204
    assert api.files("handbook") == []
    assert api.client.get("/documents", params={"collection": "handbook"}).status_code == 404
    assert api.client.delete("/collections/handbook").status_code == 404
    assert api.client.post("/collections", json={"name": "handbook"}).status_code == 201
    assert api.sources(collection="handbook") == []
    assert api.client.delete("/collections/handbook").status_code == 204


def test_reports_are_listed_and_read_by_name(api: Api) -> None:
    folder = api.home / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    report = {"dataset": "faq", "questions": 3, "metrics": {"recall@5": {"mean": 0.9, "low": 0.8, "high": 1.0}}}
    (folder / "first.json").write_text(json.dumps(report), encoding="utf-8")
    (folder / "broken.json").write_text("{", encoding="utf-8")

    listed = {one["name"]: one for one in api.client.get("/reports").json()["reports"]}
    assert (listed["first"]["dataset"], listed["first"]["metrics"]) == ("faq", {"recall@5": 0.9})
    assert "broken.json" in listed["broken"]["problem"]
    assert api.client.get("/reports/first").json() == report
    for name in ("broken", "nothing", "..%2Fjobs", "%2e%2e"):
        assert api.client.get(f"/reports/{name}").status_code in (400, 404)
    assert as_key(api, "handbook").client.get("/reports").status_code == 403


def test_a_key_that_writes_syncs_urls_and_no_paths(api: Api, tmp_path: Path) -> None:
    writer = as_key(api, "writer")
    (tmp_path / "a.md").write_bytes(KITES)
    for sources in ([str(tmp_path)], ["/x://y"], ["s3://bucket/a.md"], ["https://example.org/", "docs"]):
        assert writer.client.post("/jobs", json={"sources": sources}).status_code in (403, 422), sources
    job = writer.ended(writer.client.post("/jobs", json={"sources": ["http://127.0.0.1:1/"]}))
    assert job["problem"]["title"] == "SourceError"
    assert writer.ended(writer.upload(("a.md", KITES)))["state"] == "done"


def test_uploads_of_different_groups_never_meet(api: Api) -> None:
    """Each sees its own file of the name and the one for everyone, and replaces and deletes no other."""
    hr, legal = as_key(api, "hr"), as_key(api, "legal")
    api.ended(api.upload(("note.md", b"# Open\n\nFor everyone.\n")))
    first = hr.ended(hr.upload(("note.md", b"# HR\n\nThe salary is high.\n")))
    second = legal.ended(legal.upload(("note.md", b"# Law\n\nThe contract is void.\n"), access=["legal"]))

    assert (first["state"], second["state"]) == ("done", "done")
    assert first["sources"] != second["sources"]
    assert {one["title"]: one["access"] for one in api.documents()} == {
        "Open": [],
        "HR": ["hr", "staff"],
        "Law": ["legal"],
    }
    assert {one["title"] for one in hr.documents()} == {"Open", "HR"}
    assert {one["title"] for one in legal.documents()} == {"Open", "Law"}
    assert len(api.documents()) == 3
    assert legal.client.get(f"/jobs/{first['id']}").status_code == 404
    own = hr.id_of(first["sources"][0])
    assert hr.client.get(f"/documents/{own}").json()["access"] == ["hr", "staff"]
    for path in (f"/documents/{own}", f"/documents/{own}/original"):
        assert legal.client.get(path).status_code == 404
    assert legal.client.delete(f"/documents/{own}").status_code == 404
    assert legal.client.delete(f"/documents/{api.id_of('upload://shared/note.md')}").status_code == 403
    assert legal.upload(("x.md", KITES), access=["hr"]).status_code == 403
    assert api.upload(("x.md", KITES), access=["no group!"]).status_code == 400
    assert legal.client.post("/jobs", json={"sources": first["sources"]}).status_code == 422
    assert legal.client.get("/reports").status_code == 403
    assert len(api.files()) == 3

    again = api.ended(api.client.post("/jobs", json={"sources": first["sources"]}))
    assert again["report"]["unchanged"] == 1
    counts = legal.client.get("/collections").json()["collections"][0]
    assert (counts["documents"], counts["chunks"]) == (2, 2)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_curl_lines_of_the_pages_work(tmp_path: Path) -> None:
    pages = [DOCS / "serve.md", DOCS / "serve-documents.md"]
    text = "".join(page.read_text(encoding="utf-8") for page in pages).replace("\\\n", "")
    lines = re.findall(r"^    (curl .*)$", text, re.MULTILINE)
    write(tmp_path, {"handbook.md": "# Leave\n\nThere are 30 days of leave.\n", "notes.md": OWLS.decode()})
    with serving(Settings(uri=str(tmp_path / "docs.db"), embedder="static")) as address:
        api = Api(address, tmp_path / "docs.db.serve", {})
        example = api.ended(api.client.post("/documents/sample"))
        for line in lines:
            words = shlex.split(line.replace("localhost:8080", address).replace(JOB["id"], example["id"]))
            done = subprocess.run([*words, "-sS", "--fail-with-body"], cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, (line, done.stdout, done.stderr)

    assert len(lines) >= 7
