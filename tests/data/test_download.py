import hashlib
import http.server
import socket
import threading
from pathlib import Path

import pytest

from flowgen.core import InputError, cache_folder
from flowgen.data.download import download

CONTENT = bytes(range(256)) * 20
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/without-length":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path == "/truncated" else CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("page", ["/file", "/without-length"])
def test_the_right_file_arrives_whole_and_nothing_else_is_left(server, tmp_path, page):
    path = tmp_path / "deep" / "file.gz"
    assert download(server + page, path, sha256=DIGEST) == path
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file.gz"]


def refused(url, tmp_path, *, sha256=DIGEST, timeout=5.0):
    """Return the one line of a download that must fail without leaving or touching a file."""
    path = tmp_path / "file.gz"
    path.write_bytes(b"older")
    with pytest.raises(InputError) as error:
        download(url, path, sha256=sha256, timeout=timeout)
    assert path.read_bytes() == b"older"
    assert [p.name for p in tmp_path.iterdir()] == ["file.gz"]
    assert "\n" not in str(error.value)
    assert url in str(error.value)
    return str(error.value)


def test_a_wrong_checksum_is_refused(server, tmp_path):
    message = refused(server + "/file", tmp_path, sha256="0" * 64)
    assert DIGEST in message
    assert "0" * 64 in message


def test_a_transfer_that_breaks_off_is_refused(server, tmp_path):
    assert "network" in refused(server + "/truncated", tmp_path)


def test_an_answer_of_not_found_is_refused(server, tmp_path):
    assert "Not Found" in refused(server + "/missing", tmp_path)


def test_a_refused_connection_is_told_in_one_line(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert "refused" in refused(f"http://127.0.0.1:{port}/file", tmp_path)


def test_a_silent_server_is_given_up_after_the_timeout(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        assert "timed out" in refused(url, tmp_path, timeout=0.2)


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="cannot write to .*taken"):
        download(server + "/file", tmp_path / "taken" / "file.gz", sha256=DIGEST)


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWGEN_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("FLOWGEN_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "flowgen"
