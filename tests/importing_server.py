"""A Milvus server that imports files: Milvus Lite's own, with the HTTP interface of imports in front of it.

Milvus serves gRPC and HTTP at one address, and so does this. An import reads the Parquet file as the server would,
holds it against the schema of the collection, and puts its rows in; a row that is there already, which a real import
would double, makes it fail.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self

import pyarrow
import pyarrow.parquet
from pymilvus import DataType, MilvusClient

from stored import MilvusProcess

Reply = dict[str, Any]


class ImportingServer:
    """A context manager; `uri` is the address, `jobs` what was asked for. A job ends at the second look at it.

    While `failure` is set, an import fails with that reason.
    """

    def __init__(self, data: Path) -> None:
        self.jobs: dict[str, Reply] = {}
        self.failure = ""
        self._milvus = MilvusProcess(data)
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                if self.request.recv(3, socket.MSG_PEEK) == b"PRI":  # how HTTP/2, and with it gRPC, begins
                    server._pass_on(self.request)
                else:
                    _Http(self.request, self.client_address, self.server, server._answer)

        self._front = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._front.daemon_threads = True
        self._thread = threading.Thread(target=self._front.serve_forever, args=(0.05,), name="front")
        self.uri = f"http://127.0.0.1:{self._front.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._front.shutdown()
        self._front.server_close()
        self._thread.join()
        self._milvus.__exit__()

    def begin(self, collection: str, paths: list[str]) -> str:
        """A job as if someone had asked for it."""
        job = str(len(self.jobs) + 1)
        self.jobs[job] = {"jobId": job, "collectionName": collection, "paths": paths, "state": "Pending"}
        return job

    def _answer(self, path: str, asked: Reply) -> Reply:
        if path.endswith("/create"):
            return {"jobId": self.begin(asked["collectionName"], [file for (file,) in asked["files"]])}
        if path.endswith("/list"):
            return {"records": [job for job in self.jobs.values() if job["collectionName"] == asked["collectionName"]]}
        job = self.jobs[asked["jobId"]]
        if job["state"] == "Pending":
            job["state"] = "Importing"
        elif job["state"] == "Importing":
            job["reason"] = self.failure or self._import(job["collectionName"], job["paths"])
            job["state"] = "Failed" if job["reason"] else "Completed"
        return job

    def _import(self, collection: str, paths: list[str]) -> str:
        table = pyarrow.concat_tables(pyarrow.parquet.read_table(path) for path in paths)
        client = MilvusClient(self._milvus.uri)
        fields = client.describe_collection(collection)["fields"]
        given = {field["name"] for field in fields if field["type"] != DataType.SPARSE_FLOAT_VECTOR}
        if set(table.column_names) != given:
            return f"the columns are {table.column_names}"
        rows = [{**row, "metadata": json.loads(row["metadata"])} for row in table.to_pylist()]
        if there := client.get(collection, [row["id"] for row in rows], output_fields=["id"]):
            return f"{len(there)} rows are there already"
        client.insert(collection, rows)
        client.close()
        return ""

    def _pass_on(self, near: socket.socket) -> None:
        host, port = self._milvus.uri.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as far:
            back = threading.Thread(target=_copy, args=(far, near), daemon=True)
            back.start()
            _copy(near, far)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()


class _Http(BaseHTTPRequestHandler):
    def __init__(self, *arguments: Any) -> None:
        *rest, self._answer = arguments
        super().__init__(*rest)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"code": 0, "data": self._answer(self.path, asked)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
