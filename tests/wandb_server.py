"""A server on 127.0.0.1 that speaks as much of W&B's protocol as the pinned client asks for: GraphQL, the file stream, uploads.

    with WandbServer() as server:
        done = server.run(folder, "sweep", "space.yaml")

It keeps what it is sent and hands out what a test put there; a request that it does not know is refused and noted in `unknown`. It is *not* W&B's
server: it checks no sweep, draws no parameters, and stops no run on its own. The operations were read from the requests of the real client.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

from tests.entries.command import environment
from tests.wandb_state import ENTITY, KEY, Fault, Refused, Run, Sweep, Variables, project, public, viewer

OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")
STREAM = re.compile(r"/files/[^/]+/[^/]+/([^/]+)/file_stream")
HISTORY, SUMMARY = "wandb-history.jsonl", "wandb-summary.json"
HANG_S = 60.0


class WandbServer:
    """W&B for one test.

    Attributes:
        runs, sweeps: by id.
        asked: operation and variables of every request, in order.
        unknown: requests that the server does not know.
        faults: by operation; `file_stream`, `upload` and `download` are operations, too.
        artifacts: by id: what `createArtifact` was told, and `files` by name.
        agents: hosts by agent.
        reported: runs that agents said are running, by heartbeat.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.unknown: list[str] = []
        self.faults: dict[str, Fault] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.agents: dict[str, tuple[str, str]] = {}
        self.reported: list[dict[str, bool]] = []
        self._answered: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._lock, self._closing = threading.RLock(), threading.Event()
        self._operations: dict[str, Callable[[Variables], Any]] = {
            "Viewer": viewer,
            "GetDefaultEntity": viewer,
            "ServerFeaturesQuery": lambda asked: {"serverInfo": {"features": []}},
            "OrganizationCoreWeaveOrganizationID": lambda asked: {"entity": {"organization": None}},
            "UpsertSweep": self._upsert_sweep,
            "GetSweep": self._sweep,
            "GetSweepLegacy": self._sweep,
            "SweepWithRuns": self._sweep,
            "SweepConfig": self._sweep,
            "CreateAgent": self._create_agent,
            "Heartbeat": self._heartbeat,
            "Runs": self._list_runs,
            "Run": self._run,
            "RunState": self._run,
            "RunHistoryKeys": self._run,
            "RunParquetHistory": self._parquet_history,
            "HistoryPage": self._history_page,
            "RunResumeStatus": self._resume_status,
            "UpsertBucket": self._upsert_bucket,
            "CreateRunFiles": self._create_run_files,
            "MarkRunFilesUploaded": lambda asked: {"markRunFilesUploaded": {"success": True}},
            "FetchArtifactDigestAlgorithm": lambda asked: {"project": {"artifactType": None}},
            "XXHashDigestsEnabled": lambda asked: {"entity": {"xxhashDigestsEnabled": False}},
            "ArtifactType": lambda asked: {"project": {"artifact": None}},
            "CreateArtifact": self._create_artifact,
            "CreateArtifactManifest": self._create_manifest,
            "UpdateArtifactManifest": self._create_manifest,
            "CreateArtifactFiles": self._create_artifact_files,
            "CommitArtifact": self._commit_artifact,
        }

    def __enter__(self) -> Self:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads, self._http.block_on_close = True, False
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Its address, as `WANDB_BASE_URL`."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def environment(self, home: Path, key: str = KEY) -> dict[str, str]:
        """Variables that let the client talk to this server, with `home` for what it keeps."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": key, "HOME": str(home), "WANDB_ERROR_REPORTING": "false"}

    def run(self, folder: Path, *arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        """The command `wandb <arguments>` of the client, in `folder`; it and what it starts keep everything below that."""
        (home := folder / "home").mkdir(parents=True, exist_ok=True)
        programs = Path(sys.executable).parent
        paths = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(home), "WANDB_DIR": str(folder)}
        known = {**environment(), **self.environment(home), **paths}
        return subprocess.run(
            [str(programs / "wandb"), *arguments],
            cwd=folder,
            env=known,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def operations(self) -> list[str]:
        """What was asked for, in order."""
        return [name for name, _ in self.asked]

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> bytes:
        """The body of the answer.

        Raises:
            Refused: with status and message.
        """
        path = unquote(request.path)
        if path.startswith("/sdk/otel/"):  # the client's telemetry on itself
            return b""
        if path.startswith("/storage/"):  # signed addresses: without a key, as W&B's are
            return self._storage(request.command, path, body)
        if request.headers.get("Authorization") != "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode():
            raise Refused(401, "the API key is not valid")
        if stream := STREAM.fullmatch(path):
            return self._guarded("file_stream", {"run": stream[1]}, lambda: self._stream(stream[1], json.loads(body)))
        if path == "/graphql":
            return self._graphql(json.loads(body))
        self.unknown.append(f"{request.command} {path}")
        raise Refused(404, f"no such address: {path}")

    def _guarded(self, name: str, asked: Mapping[str, Any], answer: Callable[[], Any]) -> bytes:
        """The answer to an operation, as JSON, or its fault."""
        with self._lock:
            self.asked.append((name, dict(asked)))
            fault = self._fault(name)
            if fault is None:
                self._answered[name] += 1
                return json.dumps(answer()).encode()
        if fault.what == "hang":
            self._closing.wait(HANG_S)
        if isinstance(fault.what, int):
            raise Refused(fault.what, "the server has a fault")
        return json.dumps({"errors": [{"message": "the server has a fault"}]}).encode()

    def _fault(self, name: str) -> Fault | None:
        fault = self.faults.get(name)
        if fault is None or self._answered[name] < fault.after:
            return None
        self._failed[name] += 1
        return fault if fault.times is None or self._failed[name] <= fault.times else None

    def _graphql(self, request: Mapping[str, Any]) -> bytes:
        found = OPERATION.search(request["query"])
        name, variables = found[1] if found else request["query"], request.get("variables") or {}
        if name not in self._operations:
            self.unknown.append(request["query"])
            raise Refused(400, f"unknown operation {name}")
        return self._guarded(name, variables, lambda: {"data": self._operations[name](variables)})

    def _upsert_sweep(self, asked: Variables) -> Any:
        name = f"sweep{len(self.sweeps)}"
        self.sweeps[name] = Sweep(asked["config"], asked["projectName"])
        sweep = {"name": name, "project": project(asked["projectName"])}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def _sweep(self, asked: Variables) -> Any:
        name = asked.get("name") or asked["sweep"]
        if name not in self.sweeps or asked["entity"] != ENTITY or asked["project"] != self.sweeps[name].project:
            return {"project": None}
        known = {"id": f"id-{name}", "name": name, "displayName": None, "state": "RUNNING", "config": self.sweeps[name].config}
        runs = {"edges": [{"node": public(run)} for run in self._runs_of(name)]}
        return {"project": {"sweep": {"__typename": "Sweep", **known, "controllerRunName": None, "runs": runs}}}

    def _create_agent(self, asked: Variables) -> Any:
        id = f"agent{len(self.agents)}"
        self.agents[id] = (asked["host"], asked["sweep"])
        return {"createAgent": {"agent": {"id": id}}}

    def _heartbeat(self, asked: Variables) -> Any:
        """The next commands of the agent's sweep."""
        self.reported.append(json.loads(asked["runState"]))
        waiting = self.sweeps[self.agents[asked["id"]][1]].commands
        commands = json.dumps(waiting.pop(0) if waiting else [])
        return {"agentHeartbeat": {"agent": {"id": asked["id"]}, "commands": commands}}

    def _runs_of(self, sweep: str) -> list[Run]:
        return [run for run in self.runs.values() if run.sweep == sweep]

    def _list_runs(self, asked: Variables) -> Any:
        """A page of a sweep's runs, in the order of their creation."""
        (clause,) = json.loads(asked["filters"])["$and"]
        runs, begin = self._runs_of(clause["sweep"]), int(asked["cursor"] or 0)
        assert asked["order"] == "+created_at", asked
        page = runs[begin : begin + asked["perPage"]]
        edges = [{"node": public(run, whole=False), "cursor": str(begin + place)} for place, run in enumerate(page, 1)]
        more = {"endCursor": str(begin + len(page)), "hasNextPage": begin + len(page) < len(runs)}
        return {"project": {"internalId": "1", "runCount": len(runs), "runs": {"edges": edges, "pageInfo": more}}}

    def _run(self, asked: Variables) -> Any:
        run = self.runs.get(asked.get("name") or asked["run"])
        return {"project": {"run": None if run is None else public(run)}}

    def _parquet_history(self, asked: Variables) -> Any:
        """Where the exported part of a history is, and the steps of the part that is not exported."""
        name = asked["runName"]
        urls = [f"{self.url}/storage/parquet/{name}/{place}" for place in range(len(self.runs[name].parquet))]
        live = [{key: row[key] for key in asked["liveKeys"]} for row in self.runs[name].rows()]
        return {"project": {"run": {"parquetHistory": {"parquetUrls": urls, "liveData": live}}}}

    def _history_page(self, asked: Variables) -> Any:
        run = self.runs[asked["run"]]
        steps = range(asked["minStep"], asked["maxStep"])
        page = [line for line, row in zip(run.history, run.rows(), strict=True) if row["_step"] in steps]
        return {"project": {"run": {"history": page[: asked["pageSize"]]}}}

    def _resume_status(self, asked: Variables) -> Any:
        run = self.runs.get(asked["name"])
        bucket = None if run is None else {**public(run), "historyTail": json.dumps(run.history[-1:]), "eventsTail": "[]"}
        if run is not None and bucket is not None:
            bucket |= {"logLineCount": 0, "eventsLineCount": 0, "wandbConfig": json.dumps({"t": 1})}
        return {"model": {**project(asked["project"]), "bucket": bucket}}

    def _upsert_bucket(self, asked: Variables) -> Any:
        name = asked["name"]
        run = self.runs.setdefault(name, Run(name))
        run.inserted += 1
        if asked.get("config"):
            run.config = {key: entry["value"] for key, entry in json.loads(asked["config"]).items()}
        run.project, run.sweep = asked.get("project") or run.project, asked.get("sweep") or run.sweep
        run.display_name, run.group = asked.get("displayName") or run.display_name, asked.get("groupName") or run.group
        run.tags = asked.get("tags") or run.tags
        bucket = {**public(run), "project": project(run.project)}
        return {"upsertBucket": {"bucket": bucket, "inserted": run.inserted == 1}}

    def _stream(self, name: str, body: Mapping[str, Any]) -> Any:
        """Lines of a run's history and summary, at the places that the client says, and its end."""
        run = self.runs[name]
        files = body.get("files") or {}
        if HISTORY in files:
            offset = files[HISTORY]["offset"]
            assert offset <= len(run.history), "a gap in the history"
            run.history[offset:] = files[HISTORY]["content"]
        if SUMMARY in files:
            run.summary = json.loads(files[SUMMARY]["content"][-1])
        if body.get("complete"):
            run.exit_code = int(body["exitcode"])
            run.state = "failed" if run.exit_code else "finished"
        return {"limits": {}}

    def _create_run_files(self, asked: Variables) -> Any:
        files = [{"name": name, "uploadUrl": f"{self.url}/storage/run/{asked['run']}/{name}"} for name in asked["files"]]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}

    def _create_artifact(self, asked: Variables) -> Any:
        id = f"artifact{len(self.artifacts)}"
        self.artifacts[id] = {**asked["input"], "files": {}, "committed": False}
        return {"createArtifact": {"artifact": {"id": id, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}}}

    def _create_manifest(self, asked: Variables) -> Any:
        id = asked.get("artifactID") or asked["artifactManifestID"].removeprefix("manifest-")
        file = {"id": "f", "uploadUrl": f"{self.url}/storage/artifact/{id}/wandb_manifest.json", "uploadHeaders": []}
        name = "createArtifactManifest" if "artifactID" in asked else "updateArtifactManifest"
        return {name: {"artifactManifest": {"id": f"manifest-{id}", "file": file}}}

    def _create_artifact_files(self, asked: Variables) -> Any:
        nodes = []
        for file in asked["input"]["artifactFiles"]:
            id, name = file["artifactID"], file["name"]
            url = f"{self.url}/storage/artifact/{id}/{name}"
            nodes.append({"storagePath": name, "uploadUrl": url, "uploadHeaders": [], "artifact": {"id": id}})
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _commit_artifact(self, asked: Variables) -> Any:
        artifact = self.artifacts[asked["artifactID"]]
        artifact["committed"] = True
        return {"commitArtifact": {"artifact": {"id": asked["artifactID"], "digest": artifact["digest"]}}}

    def _storage(self, command: str, path: str, body: bytes) -> bytes:
        """Files: PUT ones of runs and artifacts, GET exported histories."""
        kind, id, name = path.removeprefix("/storage/").split("/", 2)
        if command == "PUT":
            kept = self.runs[id].uploads if kind == "run" else self.artifacts[id]["files"]
            self._guarded("upload", {"name": name}, lambda: kept.update({name: body}))
            return b""
        self._guarded("download", {"name": name}, lambda: None)
        return self.runs[id].parquet[int(name)]


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                status, answer = 200, server.answer(self, body)
            except Refused as refusal:
                status, answer = refusal.status, json.dumps({"errors": [{"message": str(refusal)}]}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            with suppress(ConnectionError):  # a client that waited for too long has gone
                self.end_headers()
                self.wfile.write(answer)

        do_GET = do_PUT = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed."""

    return Handler
