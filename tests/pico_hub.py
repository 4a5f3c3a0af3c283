"""A hub of one folder on this machine: it answers what the hub's libraries ask about models and data sets."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
SHA = "0123456789abcdef0123456789abcdef01234567"
"""The one commit of every repository."""
REFUSALS = {"GatedRepo": 403, "RepoNotFound": 401, "RevisionNotFound": 404, "EntryNotFound": 404}


def online_environment(home: Path, **changes: str) -> dict[str, str]:
    """The environment of a program that may ask the hub; its cache is in ``home``."""
    cleared = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    return {**cleared, "PYTHONPATH": str(ROOT / "src"), "HF_HOME": str(home), **changes}


class Hub(ThreadingHTTPServer):
    """Serves ``folder/models/owner/name/...`` and ``folder/datasets/owner/name/...``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder = folder
        self.gated: set[str] = set()
        self.stalled: set[str] = set()
        """Files of which half is sent, and then nothing more until the hub ends."""
        self.ended = Event()
        self.served: list[str] = []
        """Files whose content was sent, in order."""

    @property
    def url(self) -> str:
        """What HF_ENDPOINT has to be."""
        return f"http://127.0.0.1:{self.server_port}"

    def names(self, kind: str) -> list[str]:
        """The repositories of a kind."""
        return ["/".join(path.parts[-2:]) for path in sorted((self.folder / kind).glob("*/*"))]


@contextmanager
def hub(folder: Path) -> Iterator[Hub]:
    """A running hub, gone after the block."""
    with Hub(folder) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()


class Answer(BaseHTTPRequestHandler):
    """One answer."""

    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Listings, searches and files."""
        self._route()

    do_HEAD = do_GET  # noqa: N815

    def _route(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        if found := re.fullmatch(r"/api/(models|datasets)", path):
            owner, base = query.get("author", [""])[0], query.get("search", [""])[0]
            names = [
                name
                for name in self.server.names(found[1])
                if name.startswith(f"{owner}/" if owner else "") and base in name
            ]
            self._json([{"id": name} for name in names])
        elif found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(.*))?", path):
            self._about(found[1], found[2], found[3] or "")
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(found[1] or "models/", found[2], found[4])
        else:
            self._refuse("EntryNotFound")

    def do_POST(self) -> None:
        """What an upload asks: a repository, how each file is to be sent, and a commit of all of them."""
        path, body = unquote(urlsplit(self.path).path), self._body()
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            (self.server.folder / "models" / name).mkdir(parents=True, exist_ok=True)
            self._json({"url": f"{self.server.url}/{name}"})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            files = [file["path"] for file in json.loads(body)["files"]]
            self._json(
                {"files": [{"path": f, "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            put_model(
                self.server.folder, found[1], {f["path"]: base64.b64decode(f["content"]) for f in files}
            )
            self._json({"commitUrl": f"{self.server.url}/{found[1]}/commit/{SHA}", "commitOid": SHA})
        else:
            self._refuse("EntryNotFound")

    def _body(self) -> bytes:
        """What was sent, in one piece or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _about(self, kind: str, name: str, what: str) -> None:
        root = self.server.folder / kind / name
        if refusal := self._refusal(root, name, what == "auth-check"):
            self._refuse(refusal)
        elif what == "auth-check":
            self._json({})
        elif what.startswith("revision/") and what not in ("revision/main", f"revision/{SHA}"):
            self._refuse("RevisionNotFound")
        elif what.startswith("tree/"):
            below = root / "/".join(what.split("/")[2:])
            self._json([entry(root, path) for path in sorted(below.rglob("*"))])
        else:
            files = [entry(root, path) for path in sorted(root.rglob("*")) if path.is_file()]
            siblings = [
                {"rfilename": file["path"], "size": file["size"], "blobId": file["oid"]} for file in files
            ]
            self._json(
                {
                    "id": name,
                    "sha": SHA,
                    "siblings": siblings,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                    "private": False,
                }
            )

    def _file(self, kind: str, name: str, path: str) -> None:
        root = self.server.folder / kind / name
        refusal = self._refusal(root, name, True) or (None if (root / path).is_file() else "EntryNotFound")
        if refusal:
            self._refuse(refusal)
            return
        self._send(
            200,
            (root / path).read_bytes(),
            {"ETag": f'"{entry(root, root / path)["oid"]}"', "X-Repo-Commit": SHA},
            path,
        )

    def _refusal(self, root: Path, name: str, guarded: bool) -> str | None:
        if not root.is_dir():
            return "RepoNotFound"
        return "GatedRepo" if guarded and name in self.server.gated else None

    def _refuse(self, code: str) -> None:
        self._send(REFUSALS[code], b"{}", {"X-Error-Code": code, "X-Error-Message": f"refused: {code}"})

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], file: str = "") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.server.served += [file] if file else []
        self.wfile.write(body[: len(body) // 2])
        if file in self.server.stalled:
            self.server.ended.wait()
        self.wfile.write(body[len(body) // 2 :])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


def entry(root: Path, path: Path) -> dict[str, Any]:
    """A file or folder as a listing of the hub shows it."""
    name = path.relative_to(root).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": SHA, "size": 0}
    content = path.read_bytes()
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


GSM8K_ROWS = [
    {"question": f"What is {i} + 1? ½", "answer": f"{i} + 1 = <<{i}+1={i + 1}>>{i + 1}\n#### {i + 1}"}
    for i in range(5)
]
AUG_ROWS = [
    {"question": f"What is {i} + 1?", "steps": [f"<<{i}+1={i + 1}>>"], "answer": str(i + 1)} for i in range(4)
]


def put_data(
    folder: Path, name: str, rows: list[dict[str, Any]], configs: list[str], splits: list[str]
) -> None:
    """A data set as Parquet files, a folder for each configuration; the k-th split lacks the last k rows."""
    root = folder / "datasets" / name
    card = ["---", "configs:"]
    for config in configs:
        (root / config).mkdir(parents=True)
        card += [f"- config_name: {config}", "  data_files:"]
        for k, split in enumerate(splits):
            pq.write_table(
                pa.Table.from_pylist(rows[: len(rows) - k]), root / config / f"{split}-00000-of-00001.parquet"
            )
            card += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    (root / "README.md").write_text("\n".join([*card, "---", ""]))


def put_model(folder: Path, name: str, files: dict[str, bytes]) -> None:
    """A model's files as they are given."""
    for file, content in files.items():
        path = folder / "models" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
