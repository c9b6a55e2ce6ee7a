"""As much of the Hugging Face hub as pushing and loading a model needs, on 127.0.0.1."""

import base64
import hashlib
import http.server
import json
import threading
from contextlib import contextmanager

from huggingface_hub import constants

TOKEN = "hf_good"


class Server:
    """Listens on ``url``.

    Attributes:
        repos: Whether each repository is private, by name.
        files: Contents by repository and place in it.
        requests: Method and path of all that was asked.
        refuses: Paths that are answered with this code where they begin so.
    """

    def __init__(self):
        self.repos = {}
        self.files = {}
        self.requests = []
        self.refuses = {}
        self._large = {}
        self._closed = False
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words):
                pass

            def do_GET(self):
                server._answer(self, b"")

            def do_HEAD(self):
                server._answer(self, b"")

            def do_POST(self):
                server._answer(self, self._content())

            def do_PUT(self):
                server._answer(self, self._content())

            def _content(self):
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                found = b""
                while size := int(self.rfile.readline(), 16):
                    found += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return found

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self):
        """Answer nobody any more, not on connections that are kept open either."""
        self._closed = True
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, asked, body):
        if self._closed:
            asked.close_connection = True
            return None
        path = asked.path.partition("?")[0]
        self.requests.append((asked.command, path))
        for front, code in self.refuses.items():
            if path.startswith(front):
                return self._reply(asked, {"error": "you may not"}, code=code)
        if path.startswith("/large/"):
            self._large[path.rpartition("/")[2]] = body
            return self._reply(asked, {})
        if "/resolve/" in path:
            return self._file(asked, path)
        if asked.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._reply(asked, {"error": "who are you?"}, code=401)
        found = self._api(path, body)
        if found is None:
            return self._reply(asked, {"error": "no"}, 404, {"X-Error-Code": "RepoNotFound"})
        return self._reply(asked, found)

    def _api(self, path, body):
        if path == "/api/whoami-v2":
            return {"name": "me", "type": "user"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            private = bool(asked.get("private") or asked.get("visibility") == "private")
            self.repos.setdefault(name, private)
            self.files.setdefault(name, {})
            return {"url": f"{self.url}/{name}"}
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.url}/large/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            return {"transfer": "basic", "objects": objects}
        repo = "/".join(path.removeprefix("/api/models/").split("/")[:2])
        if "/preupload/" in path:
            files = [
                {"path": each["path"], "uploadMode": mode, "shouldIgnore": False}
                for each in json.loads(body)["files"]
                for mode in ["regular" if each["path"].endswith((".md", ".json", ".py")) else "lfs"]
            ]
            return {"files": files}
        if "/commit/" in path:
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    self.files[repo][value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    self.files[repo][value["path"]] = self._large[value["oid"]]
            oid = "1" * 40
            return {"commitUrl": f"{self.url}/{repo}/commit/{oid}", "commitOid": oid}
        if repo not in self.repos:
            return None
        return {"id": repo, "sha": "1" * 40, "private": self.repos[repo], "siblings": []}

    def _file(self, asked, path):
        owner, name, _, _, place = path.strip("/").split("/", 4)
        repo = f"{owner}/{name}"
        if repo not in self.files:
            return self._reply(asked, {"error": "no"}, 404, {"X-Error-Code": "RepoNotFound"})
        content = self.files[repo].get(place)
        if content is None:
            return self._reply(asked, {"error": "no"}, 404, {"X-Error-Code": "EntryNotFound"})
        tag = hashlib.sha256(content).hexdigest()
        more = {"ETag": f'"{tag}"', "X-Repo-Commit": "1" * 40}
        return self._reply(asked, content, 200, more)

    def _reply(self, asked, content, code=200, more=None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        asked.send_response(code)
        for name, value in {**(more or {}), "Content-Length": str(len(data))}.items():
            asked.send_header(name, value)
        asked.end_headers()
        if asked.command != "HEAD":
            asked.wfile.write(data)


@contextmanager
def served(monkeypatch, cache):
    """Let huggingface_hub talk to a server, which is yielded, and keep its files in a folder."""
    server = Server()
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(cache),
    }.items():
        monkeypatch.setattr(constants, name, value)
    yield server
    server.close()
