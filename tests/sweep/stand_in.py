"""A stand-in of the server of Weights & Biases on loopback: what `wandb sweep`, `wandb agent` and a run ask of it.

It plays a grid: it hands the values of the sweep's file out one after the other, and keeps what comes back.
"""

import itertools
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

ENTITY, PROJECT, SWEEP = "someone", "dkp", "grid0001"
OWNER = {"id": "p1", "name": PROJECT, "entity": {"id": "e1", "name": ENTITY}}


class StandIn:
    """The server; use it in a ``with`` statement.

    Attributes:
        sweep: the sweep's file as `wandb sweep` sent it.
        runs: run id -> configuration, as the run sent it.
        history: run id -> lines of metrics.
        exits: run id -> exit code.
        asked: names of the GraphQL operations, in order.
    """

    def __init__(self):
        self.sweep, self.runs, self.history, self.exits, self.asked = {}, {}, {}, {}, []
        self.lock = threading.Lock()
        self.trials = iter(())
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"owner": self}))
        self.server, self.url = server, f"http://127.0.0.1:{server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, query, variables):
        """The data of a GraphQL query, by the fields that it asks for."""
        self.asked.append(re.search(r"(?:query|mutation)\s+(\w+)", query)[1])
        if "upsertSweep" in query:
            self.sweep = yaml.safe_load(variables["config"])
            lists = {name: entry["values"] for name, entry in self.sweep["parameters"].items()}
            grid = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
            self.trials = iter(enumerate(grid))
            return {"upsertSweep": {"sweep": {"name": SWEEP, "project": OWNER}, "configValidationWarnings": []}}
        if "createAgent" in query:
            return {"createAgent": {"agent": {"id": "a1"}}}
        if "agentHeartbeat" in query:
            return {"agentHeartbeat": {"agent": {"id": "a1"}, "commands": json.dumps(self.commands(variables))}}
        if "upsertBucket" in query:
            name = variables.get("name") or variables["id"].removeprefix("id-")
            if variables.get("config"):
                self.runs[name] = json.loads(variables["config"])
            names = dict.fromkeys(("name", "displayName"), name)
            bucket = {"id": f"id-{name}", **names, "sweepName": SWEEP, "project": OWNER, "historyLineCount": 0}
            return {"upsertBucket": {"bucket": {**bucket, "description": "", "config": "{}"}, "inserted": True}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if "viewer" in query:
            teams = {"edges": [{"node": {"name": ENTITY}}]}
            viewer = {"id": "u1", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "teams": teams}
            return {"viewer": {**viewer, "admin": False}}
        if "serverInfo" in query:
            return {"serverInfo": {"features": [], "cliVersionInfo": {"max_cli_version": "99.0"}}}
        if "model(" in query:
            return {"model": {**OWNER, "bucket": None}}
        sweep = {"id": "s1", "name": SWEEP, "method": "grid", "state": "RUNNING", "config": yaml.safe_dump(self.sweep)}
        run = {"id": "r", "state": "running", "stopped": False, "sweepName": SWEEP}
        return {"project": {**OWNER, "sweep": {**sweep, "runs": {"edges": []}}, "run": run}}

    def commands(self, variables):
        """The agent's next command: a run where none runs, and the end after the last."""
        if json.loads(variables["runState"]):
            return []
        trial = next(self.trials, None)
        if trial is None:
            return [{"type": "exit"}]
        number, values = trial
        args = {name: {"value": value} for name, value in values.items()}
        return [{"type": "run", "run_id": f"run{number}", "program": self.sweep["program"], "args": args}]

    def stream(self, run, content):
        """A part of a run's metrics."""
        lines = content.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
        self.history.setdefault(run, []).extend(json.loads(line) for line in lines)
        if content.get("complete"):
            self.exits[run] = content.get("exitcode")


class Handler(BaseHTTPRequestHandler):
    owner: StandIn
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        with self.owner.lock:
            if self.path.endswith("/graphql"):
                self.reply({"data": self.owner.answer(content["query"], content.get("variables") or {})})
            else:
                self.owner.stream(self.path.split("/")[-2], content)
                self.reply({"exitcode": None, "limits": {}})

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.reply({})

    def do_GET(self):
        self.reply({})

    def reply(self, data):
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing is printed."""
