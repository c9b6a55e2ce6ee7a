"""As much of a Weights & Biases server as a run needs, which can be told to hang or to go away."""

import gzip
import http.server
import json
import threading
import time

BUCKET = {
    "id": "cnVu",
    "displayName": "run",
    "description": None,
    "config": "{}",
    "summaryMetrics": "{}",
    "sweepName": None,
    "project": {"id": "cA==", "name": "flowgen", "entity": {"id": "ZQ==", "name": "me"}},
    "logLineCount": 0,
    "eventsLineCount": 0,
    "historyTail": "[]",
    "eventsTail": "[]",
    "files": {"edges": []},
    "tags": [],
    "wandbConfig": '{"t": 1}',
}


class Server:
    """Listens on ``url``; ``history`` holds rows by run, ``files`` what was uploaded."""

    def __init__(self):
        self.history = {}
        self.files = {}
        self.config = {}
        self.hangs = False
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words):
                pass

            def _reply(self, content):
                data = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _body(self):
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                while server.hangs:
                    time.sleep(0.1)
                if self.headers.get("Content-Encoding") == "gzip":
                    return gzip.decompress(data)
                return data

            def do_GET(self):
                self._reply({})

            def do_PUT(self):
                server.files[self.path.removeprefix("/storage/")] = self._body()
                self._reply({})

            def do_POST(self):
                body = json.loads(self._body() or b"{}")
                if self.path.endswith("/file_stream"):
                    server.stream(self.path.split("/")[-2], body)
                    self._reply({})
                else:
                    self._reply({"data": server.answer(body)})

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stream(self, run, body):
        part = body.get("files", {}).get("wandb-history.jsonl")
        if part:
            rows = self.history.setdefault(run, [])
            rows[part["offset"] :] = [json.loads(line) for line in part["content"]]

    def answer(self, body):
        query, given = body.get("query", ""), body.get("variables", {})
        if "upsertBucket" in query:
            new = given["name"] not in self.config
            self.config.setdefault(given["name"], {}).update(json.loads(given["config"] or "{}"))
            self.history.setdefault(given["name"], [])
            return {"upsertBucket": {"bucket": self._bucket(given["name"]), "inserted": new}}
        if "createRunFiles" in query:
            files = [{"name": n, "uploadUrl": f"{self.url}/storage/{n}"} for n in given["files"]]
            return {"createRunFiles": {"runID": "cnVu", "uploadHeaders": [], "files": files}}
        if "RunResumeStatus" in query:
            name = given["name"]
            found = self._bucket(name) if name in self.config else None
            return {"model": {"id": "cA==", "name": "flowgen", "entity": {}, "bucket": found}}
        return {}

    def _bucket(self, name):
        rows = self.history[name]
        tail = json.dumps([json.dumps(rows[-1])]) if rows else "[]"
        return BUCKET | {"name": name, "historyLineCount": len(rows), "historyTail": tail}

    def close(self):
        self._server.shutdown()
        self._server.server_close()
