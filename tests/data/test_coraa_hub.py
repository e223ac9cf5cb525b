"""Shards by Hub id: the real client of the Hub, asked against a server that speaks its protocol on this machine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.warm import Warm

NAME, COMMIT = "somebody/interviews", "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """A data set on a server of this machine: its files by name, and what was asked for."""

    files: dict[str, bytes]
    asked: list[str] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        """One request: the list of files, or a file."""
        self.asked.append(f"{request.command} {request.path}")
        path = request.path.partition("?")[0]
        if path.startswith(f"/api/datasets/{NAME}"):
            listed = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
            return self._send(request, json.dumps(listed).encode(), body, "application/json")
        start = f"/datasets/{NAME}/resolve/{COMMIT}/"
        content = self.files.get(path.removeprefix(start)) if path.startswith(start) else None
        if content is None:
            request.send_error(404)
            return None
        return self._send(request, content, body, "application/octet-stream")

    def _send(self, request: BaseHTTPRequestHandler, content: bytes, body: bool, kind: str) -> None:
        request.send_response(200)
        headers = {"Content-Type": kind, "Content-Length": len(content), "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        for name, value in {**headers, "X-Repo-Commit": COMMIT}.items():
            request.send_header(name, str(value))
        request.end_headers()
        if body:
            request.wfile.write(content)


@pytest.fixture
def hub(made_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The fixture's shards on a Hub of this machine."""
    pytest.importorskip("huggingface_hub")
    files = {f"data/{path.name}": path.read_bytes() for path in sorted(made_shards.glob("*.parquet"))}
    served = Hub(files | {"README.md": b"# interviews\n", "audio/one.wav": b"RIFF"})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self, body=True)

        def do_HEAD(self) -> None:
            served.answer(self, body=False)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def prepared(source: str, out: Path) -> subprocess.CompletedProcess[str]:
    """The command of a user, in a process of its own: the client reads its address when it is imported."""
    command = [sys.executable, "-m", "tune_accent.prepare", "coraa-mupe", "--from", source, "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def files(root: Path) -> dict[str, bytes]:
    """What is in a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_a_data_set_of_the_hub_gives_the_same_corpus_as_its_shards(
    hub: Hub, made_shards: Path, tmp_path: Path, warm: Warm
) -> None:
    here = ("coraa-mupe", "--from", str(made_shards), "--out", str(tmp_path / "here"))
    for done in (warm.run(tmp_path, "tune_accent.prepare", *here), prepared(NAME, tmp_path / "there")):
        assert done.returncode == 0, done.stderr
    assert files(tmp_path / "here") == files(tmp_path / "there") and (tmp_path / "there" / "manifest.jsonl").is_file()
    assert not any("README" in path or ".wav" in path for path in hub.asked), "only the shards are taken"
    hub.asked.clear()
    assert prepared(NAME, tmp_path / "again").returncode == 0
    assert not [path for path in hub.asked if path.startswith("GET /datasets/")], "they are downloaded once"


def test_a_data_set_that_is_not_there(hub: Hub, tmp_path: Path) -> None:
    done = prepared("somebody/else", tmp_path / "out")
    assert done.returncode == 2 and "as a data set of the Hub it cannot be had" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
