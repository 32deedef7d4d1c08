"""A model hub on loopback that speaks as much of the Hugging Face protocol as a download needs.

The client is the real huggingface_hub. What it asks for, in order: the repository at a
revision (`/api/models/{id}/revision/{revision}`), its files (`/api/models/{id}/tree/{revision}`),
then per file its metadata by HEAD and its content by GET (`/{id}/resolve/{commit}/{file}`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def serve(folder: Path, repo_id: str) -> Iterator[str]:
    """Serve a folder as the repository `repo_id`; yields the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            if path.startswith(f"/api/models/{repo_id}/tree/"):
                self._send(json.dumps(_tree(folder)).encode(), body=body)
            elif path.startswith(f"/api/models/{repo_id}"):
                self._send(json.dumps(_listing(folder, repo_id)).encode(), body=body)
            elif path.startswith(f"/{repo_id}/resolve/"):
                file = folder / path.rpartition("/")[2]
                if file.is_file():
                    self._send(file.read_bytes(), body=body)
                else:
                    self.send_error(404)
            else:
                self.send_error(404)

        def _send(self, content: bytes, *, body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _tree(folder: Path) -> list[dict[str, object]]:
    return [
        {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": COMMIT}
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]


def _listing(folder: Path, repo_id: str) -> dict[str, object]:
    files = [{"rfilename": path.name} for path in sorted(folder.iterdir()) if path.is_file()]
    return {"id": repo_id, "modelId": repo_id, "sha": COMMIT, "siblings": files, "private": False}
