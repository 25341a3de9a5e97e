"""A stand-in for the Hugging Face hub, on 127.0.0.1.

It speaks as much of the hub's protocol as `huggingface_hub`, `transformers`, `datasets` and
`transformer_lens` need to read: repositories with branches and tags, gated and private ones,
renamed ones, listings in pages, files with and without LFS, ranges. Files of LFS come from another
host than the hub's, as there, and by the Xet protocol too where `Hub.xet` is set: each such file is
one xorb of uncompressed chunks, and its SHA-256 stands for its Xet hash. Not spoken: uploads.

What goes wrong is put in by rule, see `Fault`.
"""

import gzip
import hashlib
import json
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS = {".safetensors", ".npz", ".parquet", ".pt", ".bin", ".model", ".h5", ".onnx", ".msgpack"}
CHUNK = 1 << 16  # bytes of a chunk of a xorb, before its header of 8

# Who may read all, and who is known but on no list; any other token is not valid.
MEMBER, STRANGER, EXPIRED = "hf_member", "hf_stranger", "hf_expired"
XET_TOKEN = "xet_token"


class File:
    """One file of one commit."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name, self.content = name, content
        self.lfs = PurePosixPath(name).suffix in LFS
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        self.etag = self.sha256 if self.lfs else self.oid

    def listed(self, xet: bool) -> dict[str, Any]:
        size = len(self.content)
        listed = {"type": "file", "path": self.name, "size": size, "oid": self.oid}
        if self.lfs:
            listed["lfs"] = {"oid": self.sha256, "size": size, "pointerSize": 134}
        return listed | ({"xetHash": self.sha256} if self.lfs and xet else {})

    def sibling(self) -> dict[str, Any]:
        size = len(self.content)
        lfs = {"sha256": self.sha256, "size": size, "pointerSize": 134}
        return {"rfilename": self.name, "size": size, "blobId": self.oid} | (
            {"lfs": lfs} if self.lfs else {}
        )


@dataclass
class Repository:
    """A repository, which tests may change at any time."""

    name: str
    access: str = "public"  # or "gated", or "private"
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(
        self, files: Mapping[str, bytes] | Path, commit: str | None = None, branch: str = "main"
    ) -> str:
        """Put files, or all of a folder, into a commit, move a branch to it and tell its name."""
        if isinstance(files, Path):
            paths = sorted(path for path in files.rglob("*") if path.is_file())
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in paths}
        made = {name: File(name, content) for name, content in sorted(files.items())}
        if commit is None:
            told = json.dumps([self.name, [(file.name, file.oid) for file in made.values()]])
            commit = hashlib.sha1(told.encode()).hexdigest()
        self.commits[commit] = made
        self.branches[branch] = commit
        return commit

    def find(self, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit means."""
        commit = self.branches.get(revision) or self.tags.get(revision) or revision
        return commit if commit in self.commits else None


@dataclass
class Fault:
    """What goes wrong with the requests that match; of several faults the first that matches.

    `match` is a regular expression on "METHOD /path"; `times` is how often it happens (None:
    always); `skip` is how many matching requests pass before. `do` is one of

    ======= ==================================================================================
    status  answer `status`, with `headers` and `body`
    drop    end the connection politely after `after` bytes of the body; None: before any answer
    reset   the same with a TCP reset
    stall   send `after` bytes of the body, or nothing, and then nothing more for `seconds`
    trickle send `rate` bytes a second
    flip    invert one bit of every byte from `after` on, `count` of them: same length
    cut     send the first `after` bytes as if they were all
    """

    match: str
    do: str
    times: int | None = None
    skip: int = 0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    after: int | None = None
    count: int = 1
    seconds: float = 30.0
    rate: int = 1000


@dataclass
class Request:
    """A request that was made, as the log has it."""

    method: str
    path: str
    host: str
    token: str
    agent: str
    fault: str | None
    status: int = 0
    sent: int = 0

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Answer(Exception):
    """An answer other than the wanted one."""

    def __init__(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        super().__init__(status)
        self.status, self.body = status, json.dumps({"error": message or "as asked"}).encode()
        self.headers = {key.replace("_", "-"): value for key, value in headers.items()}
        self.headers |= {"X-Error-Code": code} if code else {}
        self.headers |= {"X-Error-Message": message} if message else {}


class Hub(ThreadingHTTPServer):
    """The hub: what it holds, what goes wrong, and what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)  # any port, and then always this one
        self.lock, self.wake = threading.Lock(), threading.Event()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.renamed: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.errors: list[BaseException | None] = []
        self.xet = False
        self.packs = False  # whether small files are packed for clients that accept it
        self.page = 1000  # entries of a page of a listing
        self.heal()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def elsewhere(self) -> str:
        """Another host than the hub's: whoever sends the hub's token there gives it away."""
        return f"http://localhost:{self.server_port}"

    def repository(self, name: str, kind: str = "models") -> Repository:
        """Find a repository, or make one; `kind` may be "datasets" too."""
        return self.repositories.setdefault((kind, name), Repository(name))

    def stored(self, sha256: str) -> bytes:
        """What other hosts than the hub's hold under a SHA-256."""
        for repository in self.repositories.values():
            for files in repository.commits.values():
                for file in files.values():
                    if file.lfs and file.sha256 == sha256:
                        return file.content
        raise Answer(404, message="not stored here")

    def fault(self, match: str, do: str, **how: Any) -> None:
        """Have something go wrong."""
        self.faults.append(Fault(match, do, **how))

    def heal(self) -> None:
        """End all faults, those that are going on too."""
        self.faults.clear()
        self.wake.set()
        self.wake = threading.Event()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Switch the hub off, except that it still notes what it is asked."""
        before, self.faults = self.faults, [Fault("", "reset")]
        try:
            yield
        finally:
            self.faults = before

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Have nobody listen."""
        self.stop()
        try:
            yield
        finally:
            self.socket = socket.socket(self.address_family, self.socket_type)
            self.server_bind()
            self.server_activate()
            self.start()

    def start(self) -> None:
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.heal()
        self.shutdown()
        self.thread.join()
        self.server_close()

    def asked(self, match: str = "") -> list[str]:
        """Requests so far that match."""
        with self.lock:
            return [str(request) for request in self.requests if re.search(match, str(request))]

    def next_fault(self, request: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if not re.search(fault.match, request):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                if fault.times is not None:
                    if fault.times <= 0:
                        continue
                    fault.times -= 1
                return fault
        return None

    def handle_error(self, *_: Any) -> None:
        """Keep what is wrong with the hub itself; that clients hang up is not."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.errors.append(error)


@contextmanager
def running() -> Iterator[Hub]:
    """Run a hub in a thread."""
    hub = Hub()
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_GET

    # Frame: read the request, find the answer, note both.

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        fault = self.server.next_fault(f"{self.command} {self.path}")
        self.fault = fault
        self.asked = Request(
            method=self.command,
            path=self.path,
            host=self.headers.get("Host", ""),
            token=token,
            agent=self.headers.get("User-Agent", ""),
            fault=fault.do if fault else None,
        )
        with self.server.lock:
            self.server.requests.append(self.asked)
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        try:
            if fault and fault.do in ("drop", "reset", "stall") and fault.after is None:
                return self.leave(fault)
            if fault and fault.do == "status":
                return self.send(fault.status, fault.body or b"as asked", fault.headers)
            if token == EXPIRED:
                raise Answer(401, message='User Access Token "study" is expired')
            if token not in ("", MEMBER, STRANGER, XET_TOKEN):
                raise Answer(401, message="Invalid credentials in Authorization header")
            self.route(parts.path, body)
        except Answer as answer:
            self.send(answer.status, answer.body, answer.headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # What is where.

    def route(self, path: str, body: bytes) -> None:
        hub, sha256, repository = self.server, "([0-9a-f]{64})", "((?:[^/]+/)?[^/]+)"
        kind = "(models|datasets)"
        if match := re.fullmatch(f"/-/cdn/{sha256}", path):
            return self.send_file(hub.stored(match[1]), {"ETag": f'"{match[1]}"'})
        if match := re.fullmatch(f"/-/xet/xorbs/{sha256}", path):
            return self.send_file(_xorb(hub.stored(match[1])), {})
        if match := re.fullmatch(f"/-/xet/v1/reconstructions/{sha256}", path):
            return self.reconstruction(match[1])
        if match := re.fullmatch(f"/api/{kind}/{repository}/xet-read-token/([^/]+)", path):
            self.find(match[1], match[2], match[3])
            return self.send(200, b"{}", self.xet_access())
        if match := re.fullmatch(f"/api/resolve-cache/{kind}/{repository}/([^/]+)/(.+)", path):
            commit, file = self.file(*match.groups())
            headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": commit}
            content = file.content
            if hub.packs and "gzip" in self.headers.get("Accept-Encoding", ""):
                content, headers["Content-Encoding"] = gzip.compress(content), "gzip"
            return self.send_file(content, headers)
        if match := re.fullmatch(f"/(datasets/)?{repository}/resolve/([^/]+)/(.+)", path):
            return self.resolve((match[1] or "models/")[:-1], *match.groups()[1:])
        listing = "(?:/(revision|tree|paths-info|refs)(?:/([^/]+))?(?:/(.+))?)?"
        if match := re.fullmatch(f"/api/{kind}/(.+?){listing}", path):
            return self.api(body, *match.groups())
        if path == "/api/whoami-v2":
            if not self.asked.token:
                raise Answer(401, message="Invalid username or password.")
            return self.send_json({"type": "user", "name": self.asked.token, "auth": {}})
        raise Answer(404, message="not spoken here")

    def repository(self, kind: str, name: str, *, files: bool) -> Repository:
        hub, token = self.server, self.asked.token
        name = unquote(name)
        if new := hub.renamed.get(name):
            raise Answer(307, Location=self.path.replace(quote(name), new, 1))
        found = hub.repositories.get((kind, name))
        if found is None or (found.access == "private" and token != MEMBER):
            # To strangers the hub does not tell what is private from what is not there.
            raise Answer(404 if token else 401, "RepoNotFound", "Repository not found")
        if found.access == "gated" and files and token != MEMBER:
            why = "You must have access to it and be authenticated to access it. Please log in."
            if token:
                why = f"Visit {hub.url}/{name} to ask for access."
            told = f"Access to {kind[:-1]} {name} is restricted. {why}"
            raise Answer(403 if token else 401, "GatedRepo", told)
        return found

    def find(self, kind: str, name: str, revision: str, *, files: bool = True):
        """Repository, commit and files of a revision."""
        repository = self.repository(kind, name, files=files)
        commit = repository.find(unquote(revision))
        if commit is None:
            raise Answer(404, "RevisionNotFound", f"Invalid rev id: {unquote(revision)}")
        return commit, repository.commits[commit]

    def file(self, kind: str, name: str, revision: str, path: str) -> tuple[str, File]:
        commit, files = self.find(kind, name, revision)
        if unquote(path) not in files:
            raise Answer(404, "EntryNotFound", "Entry not found", X_Repo_Commit=commit)
        return commit, files[unquote(path)]

    def resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        hub = self.server
        commit, file = self.file(kind, name, revision, path)
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Size": str(len(file.content)),
            "X-Linked-ETag": f'"{file.etag}"',
        }
        if not file.lfs:
            location = f"/api/resolve-cache/{kind}/{name}/{commit}/{path}"
            return self.send(307, b"", {**headers, "Location": location})
        if hub.xet:
            token = f"{hub.url}/api/{kind}/{name}/xet-read-token/{commit}"
            headers |= {"X-Xet-Hash": file.sha256, "Link": f'<{token}>; rel="xet-auth"'}
        location = f"{hub.elsewhere}/-/cdn/{file.sha256}?signature=x"
        return self.send(302, b"", {**headers, "Location": location})

    def xet_access(self) -> dict[str, str]:
        return {
            "X-Xet-Cas-Url": f"{self.server.elsewhere}/-/xet",
            "X-Xet-Access-Token": XET_TOKEN,
            "X-Xet-Token-Expiration": str(int(time.time()) + 3600),
        }

    def reconstruction(self, sha256: str) -> None:
        """Tell which bytes of which xorb a file, or a range of it, is made of."""
        size = len(self.server.stored(sha256))
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "bytes=0-")
        assert asked is not None
        first, last = int(asked[1]), min(int(asked[2] or size), size - 1)
        if first > last:
            raise Answer(416)
        chunks = {"start": first // CHUNK, "end": last // CHUNK + 1}
        start, end = chunks["start"] * CHUNK, min(chunks["end"] * CHUNK, size)
        where = {"start": chunks["start"] * (CHUNK + 8), "end": end + 8 * chunks["end"] - 1}
        term = {"hash": sha256, "unpacked_length": end - start, "range": chunks}
        url = f"{self.server.elsewhere}/-/xet/xorbs/{sha256}"
        self.send_json(
            {
                "offset_into_first_range": first % CHUNK,
                "terms": [term],
                "fetch_info": {sha256: [{"range": chunks, "url": url, "url_range": where}]},
            }
        )

    def api(
        self,
        body: bytes,
        kind: str,
        name: str,
        what: str | None,
        revision: str | None,
        below: str | None,
    ) -> None:
        if what == "refs":
            found = self.repository(kind, name, files=False)
            refs = [
                [
                    {"name": ref, "ref": f"refs/{where}/{ref}", "targetCommit": commit}
                    for ref, commit in known.items()
                ]
                for where, known in (("heads", found.branches), ("tags", found.tags))
            ]
            return self.send_json({"branches": refs[0], "converts": [], "tags": refs[1]})
        # What a gated repository is, everybody may know; not what is in it.
        files_asked = what in ("tree", "paths-info")
        commit, files = self.find(kind, name, revision or "main", files=files_asked)
        if what == "tree":
            return self.send_page(self.tree(files, unquote(below or "").strip("/"), commit))
        if what == "paths-info":
            is_json = body.startswith(b"{")
            asked = (json.loads if is_json else parse_qs)(body.decode())["paths"]
            listed = [files[path].listed(self.server.xet) for path in asked if path in files]
            folders = {str(parent) for path in files for parent in PurePosixPath(path).parents}
            listed += [_folder(path, commit) for path in asked if path in folders]
            return self.send_json(listed)
        found = self.repository(kind, name, files=False)
        sizes = "blobs" in self.query
        told = [f.sibling() if sizes else {"rfilename": f.name} for f in files.values()]
        return self.send_json(
            {
                "_id": "0" * 24,
                "id": found.name,
                "modelId": found.name,
                "author": found.name.partition("/")[0],
                "sha": commit,
                "private": found.access == "private",
                "gated": "manual" if found.access == "gated" else False,
                "disabled": False,
                "tags": [],
                "downloads": 1,
                "likes": 1,
                "lastModified": "2024-09-01T00:00:00.000Z",
                "createdAt": "2024-09-01T00:00:00.000Z",
                "siblings": told,
            }
        )

    def tree(self, files: dict[str, File], below: str, commit: str) -> list[dict[str, Any]]:
        prefix = f"{below}/" if below else ""
        inside = {name: file for name, file in files.items() if name.startswith(prefix)}
        if not inside:
            raise Answer(404, "EntryNotFound", f"{below} does not exist", X_Repo_Commit=commit)
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        listed: dict[str, dict[str, Any]] = {}
        for name, file in inside.items():
            folders = name.removeprefix(prefix).split("/")[:-1]
            for depth in range(1, len(folders) + 1 if recursive else min(len(folders), 1) + 1):
                path = prefix + "/".join(folders[:depth])
                listed[path] = _folder(path, commit)
            if recursive or not folders:
                listed[name] = file.listed(self.server.xet)
        return list(listed.values())

    # Sending, with whatever is to go wrong.

    def send_page(self, entries: list[dict[str, Any]]) -> None:
        page = self.server.page
        first = int(self.query.get("cursor", ["0"])[0])
        headers = {"Content-Type": "application/json"}
        if first + page < len(entries):
            path, _, query = self.path.partition("?")
            rest = [part for part in query.split("&") if part and not part.startswith("cursor=")]
            following = "&".join([*rest, f"cursor={first + page}"])
            headers["Link"] = f'<{self.server.url}{path}?{following}>; rel="next"'
        self.send(200, json.dumps(entries[first : first + page]).encode(), headers)

    def send_json(self, what: Any) -> None:
        self.send(200, json.dumps(what).encode(), {"Content-Type": "application/json"})

    def send_file(self, content: bytes, headers: dict[str, str]) -> None:
        status, size, first = 200, len(content), 0
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        if match := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or ""):
            first = int(match[1]) if match[1] else size - int(match[2])
            last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
            if first > last:
                raise Answer(416, Content_Range=f"bytes */{size}")
            content, status = content[first : last + 1], 206
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        fault = self.fault
        if fault and fault.do == "flip":
            flipped, at = bytearray(content), (fault.after or 0) - first
            for i in range(max(at, 0), min(at + fault.count, len(flipped))):
                flipped[i] ^= 0x40
            content = bytes(flipped)
        if fault and fault.do == "cut":
            content = content[: fault.after]
        self.send(status, content, headers)

    def send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.asked.status = status
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.write(body)

    def write(self, body: bytes) -> None:
        fault = self.fault
        if fault and fault.do == "trickle":
            step = max(1, fault.rate // 20)
            for start in range(0, len(body), step):
                self.emit(body[start : start + step])
                self.server.wake.wait(0.05)
        elif fault and fault.do in ("drop", "reset", "stall") and (fault.after or 0) < len(body):
            self.emit(body[: fault.after])
            self.leave(fault)
        else:
            self.emit(body)

    def emit(self, part: bytes) -> None:
        self.asked.sent += len(part)  # before a client can ask how much it was
        self.wfile.write(part)
        self.wfile.flush()

    def leave(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.do == "stall":
            self.server.wake.wait(fault.seconds)
        if fault.do == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()


def _folder(path: str, commit: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "oid": commit, "size": 0}


def _xorb(content: bytes) -> bytes:
    # A header: version, stored length, compression (none), length; then the bytes.
    parts = [content[i : i + CHUNK] for i in range(0, len(content), CHUNK)]
    return b"".join(
        b"\0" + len(part).to_bytes(3, "little") + b"\0" + len(part).to_bytes(3, "little") + part
        for part in parts
    )
