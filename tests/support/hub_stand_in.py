"""A stand-in for the Hugging Face hub: a local HTTP server with the few endpoints that models need."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit


class Hub:
    """Repositories in memory, as files by repository; every repository has a single revision, `main`."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.tokens: list[str | None] = []
        self.address = ""

    def commit_of(self, repository: str) -> str:
        digest = hashlib.sha1()
        for name, content in sorted(self.repositories[repository].items()):
            digest.update(name.encode() + content)
        return digest.hexdigest()


def blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """Yields a hub that answers at `hub.address` within the context."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            hub.tokens.append(self.headers["Authorization"])
            if path.startswith("/api/models/"):
                owner, name, *rest = path.removeprefix("/api/models/").split("/")
                return self.about(f"{owner}/{name}", rest)
            owner, name, _resolve, _revision, file = path.removeprefix("/").split("/", 4)
            content = hub.repositories.get(f"{owner}/{name}", {}).get(file)
            if content is None:
                return self.refuse("EntryNotFound")
            headers = {"ETag": f'"{blob(content)}"', "X-Repo-Commit": hub.commit_of(f"{owner}/{name}")}
            return self.answer(content, headers)

        do_HEAD = do_GET

        def about(self, repository: str, rest: list[str]) -> None:
            if repository not in hub.repositories:
                return self.refuse("RepoNotFound")
            commit = hub.commit_of(repository)
            if len(rest) > 1 and rest[1] not in ("main", commit):
                return self.refuse("RevisionNotFound")
            files = hub.repositories[repository]
            if rest and rest[0] == "tree":
                listed = [
                    {"type": "file", "path": name, "size": len(content), "oid": blob(content)}
                    for name, content in files.items()
                ]
                return self.answer(listed)
            return self.answer(
                {"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in files], "private": False}
            )

        def do_POST(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"POST {path}")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if path == "/api/repos/create":
                given = json.loads(body)
                repository = f"{given.get('organization') or 'me'}/{given['name']}"
                hub.repositories.setdefault(repository, {})
                return self.answer({"url": f"{hub.address}/{repository}", "id": repository})
            owner, name, what, revision = path.removeprefix("/api/models/").split("/")
            if what == "preupload":
                files = json.loads(body)["files"]
                answers = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
                return self.answer({"files": answers})
            assert what == "commit"
            assert revision == "main"
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    hub.repositories[f"{owner}/{name}"][line["value"]["path"]] = content
            commit = hub.commit_of(f"{owner}/{name}")
            url = f"{hub.address}/{owner}/{name}/commit/{commit}"
            return self.answer({"success": True, "commitOid": commit, "commitUrl": url})

        def answer(self, content: object, headers: dict[str, str] | None = None, status: int = 200) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def refuse(self, code: str) -> None:
            self.answer({"error": code}, {"X-Error-Code": code, "X-Error-Message": code}, 404)

    return Handler
