"""A local server that speaks what a wandb client needs for logging."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PARTS = (("config", "config"), ("summaryMetrics", "summary"))


class Server(ThreadingHTTPServer):
    """As much of a W&B server as logging and saving views need: it keeps what it was sent.

    Attributes:
        runs: By id: the rows, the exit code, configuration and summary.
        deleted: Ids of runs that somebody has deleted; the server takes none of them again.
        delay_s: Seconds by which every answer is late.
        down: Every connection breaks off.
        refused: Requests whose path ends so are answered with status 403.
        num_requests: How many there were.
        views: What was saved as workspace or report, in order: the variables of the mutations.
        projects: Names of the projects that there are, for views; logging makes its own.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.runs: dict[str, dict[str, Any]] = {}
        self.views: list[dict[str, Any]] = []
        self.projects = ["p"]
        self.deleted: set[str] = set()
        self.delay_s, self.down, self.refused, self.num_requests = 0.0, False, "", 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that wandb resets at its end are no news."""

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        name, project = variables.get("name") or "", {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
        if "upsertBucket" in query:
            new = name not in self.runs
            run = self.runs.setdefault(name, {"rows": [], "exit": None, "config": {}, "summary": {}})
            run["group"] = variables.get("groupName") or run.get("group")
            if variables.get("config"):
                run["config"] = json.loads(variables["config"])
            config = json.dumps(run["config"])
            bucket = {"id": name, "name": name, "displayName": name, "config": config, "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": len(run["rows"])}, "inserted": new}}
        if "createRunFiles" in query:
            files = [{"name": file, "uploadUrl": f"{self.url}/upload"} for file in variables["files"]]
            return {"createRunFiles": {"runID": name, "uploadHeaders": [], "files": files}}
        if "historyTail" in query:
            known = self.runs.get(name)
            rows = known["rows"] if known else []
            counts = {"logLineCount": 0, "historyLineCount": len(rows), "eventsLineCount": 0}
            tails = {"historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]), "eventsTail": "[]"}
            kept = known or {"summary": {}, "config": {}}
            texts = {"summaryMetrics": json.dumps(kept["summary"]), "config": json.dumps(kept["config"])}
            texts["wandbConfig"] = '{"t": 1}'
            bucket = {"id": name, "name": name, "displayName": name, "tags": [], **counts, **tails, **texts}
            return {"model": {**project, "bucket": bucket if known else None}}
        if "GetDefaultEntity" in query:
            return {"viewer": {"id": "u", "entity": "e"}}
        if "RunHistoryKeys" in query:
            rows = self.runs[name]["rows"] if name in self.runs else []
            return {"project": {"run": {"historyKeys": {"lastStep": rows[-1]["_step"]} if rows else None}}}
        if "query Run(" in query:
            run = {
                "id": name,
                "name": name,
                "projectId": "1",
                "state": "finished",
                "sweepName": None,
                "user": {"name": "u"},
                "tags": [],
            }
            known = self.runs.get(name)
            kept = {key: json.dumps(known[kind]) for key, kind in PARTS} if known else {}
            return {"project": {"internalId": "1", "run": {**run, **kept} if known else None}}
        return self.views_graphql(query, variables)

    def views_graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "query Viewer" in query:
            user = {"id": "u", "entity": "e", "username": "u", "email": "u@example.org", "flags": "{}"}
            return {"viewer": {**user, "teams": {"edges": []}}}
        if "upsertView" in query:
            self.views.append(variables)
            owner = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
            view = {key: variables[key] for key in ("name", "type", "displayName", "description", "spec")}
            moment = "2026-01-01T00:00:00"
            saved = {**view, "id": f"view{len(self.views)}", "project": owner, "createdAt": moment, "updatedAt": moment}
            return {"upsertView": {"view": saved, "inserted": True}}
        if "internalId" in query:
            known = variables["projectName"] in self.projects
            return {"project": {"id": "p", "internalId": "p-internal"} if known else None}
        if "query GetProjects" in query:
            shared = {"__typename": "Project", "id": "p", "entityName": variables["entity"], "user": None}
            shared |= {"createdAt": "2026-01-01T00:00:00", "isBenchmark": False}
            edges = [{"node": {**shared, "name": name}} for name in self.projects]
            return {"models": {"pageInfo": {"endCursor": None, "hasNextPage": False}, "edges": edges}}
        return {}

    def stream(self, run_id: str, message: dict[str, Any]) -> None:
        run = self.runs[run_id]
        history = (message.get("files") or {}).get("wandb-history.jsonl")
        if history:
            rows = [json.loads(line) for line in history["content"]]
            run["rows"][history["offset"] : history["offset"] + len(rows)] = rows
        summary = (message.get("files") or {}).get("wandb-summary.json")
        if summary:
            run["summary"] = json.loads(summary["content"][0])
        if message.get("complete") is not None:
            run["exit"] = message.get("exitcode")

    def steps(self) -> list[list[int]]:
        """``env_steps`` of all rows of each seed's run, in the order in which they lie there."""
        return [[row["env_steps"] for row in run["rows"]] for name, run in self.runs.items() if "seed" in name]

    def exits(self) -> list[int | None]:
        """Exit code of each seed's run."""
        return [run["exit"] for name, run in self.runs.items() if "seed" in name]


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """A server for as long as the context lasts."""
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        self.server.num_requests += 1
        time.sleep(self.server.delay_s)
        if self.server.down:
            raise ConnectionAbortedError
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer: dict[str, Any] = {}
        status = 200
        if self.server.refused and self.path.endswith(self.server.refused):
            status = 403
        elif self.path.endswith("/graphql"):
            request = json.loads(body)
            variables = request.get("variables") or {}
            if "upsertBucket" in request["query"] and variables.get("name") in self.server.deleted:
                status = 409
                problem = f"run {variables['name']} was previously created and deleted; try a new run name"
                answer = {"errors": [{"message": problem}], "data": {"upsertBucket": None}}
            else:
                answer = {"data": self.server.graphql(request["query"], variables)}
        elif match := re.search(r"/([^/]+)/file_stream$", self.path):
            self.server.stream(match.group(1), json.loads(body))
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_POST  # noqa: N815
    do_GET = do_POST  # noqa: N815
