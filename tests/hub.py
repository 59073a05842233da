"""A hub on this machine: as much of its HTTP as downloads need."""

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "c0ffee" + 34 * "0"


@contextlib.contextmanager
def serving(repositories):
    """The address of a hub with these repositories (folders by name), which has each at
    the branch main alone, and the paths that it was asked for.
    """
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = urlsplit(self.path).path
            asked.append(path)
            status, body, headers = answer(repositories, path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *about):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(repositories, path):
    """Status, body and headers of the answer to a path."""
    for name, folder in repositories.items():
        if path == f"/api/models/{name}/revision/main":
            return of_json({"id": name, "sha": COMMIT, "siblings": []})
        if path.startswith(f"/api/models/{name}/revision/"):
            return refusal("RevisionNotFound")
        if path == f"/api/models/{name}/tree/{COMMIT}":
            return of_json([entry(file, folder) for file in files(folder)])
        if path.startswith(start := f"/{name}/resolve/{COMMIT}/"):
            body = (folder / path.removeprefix(start)).read_bytes()
            return 200, body, {"X-Repo-Commit": COMMIT, "ETag": f'"{blob(body)}"'}
    return refusal("RepoNotFound")


def of_json(value):
    return 200, json.dumps(value).encode(), {"Content-Type": "application/json"}


def refusal(code):
    return 404, b"", {"X-Error-Code": code}


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def entry(path, folder):
    body = path.read_bytes()
    name = path.relative_to(folder).as_posix()
    return {"type": "file", "path": name, "size": len(body), "oid": blob(body)}


def blob(body):
    """As git names contents."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
