"""An HTTP server before the schema registry, which gives GUIDs, demands credentials, and misbehaves when told to."""

import contextlib
import http.client
import json
import ssl
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# How it misbehaves: the answers to every request.
HTML = "200 with a page in HTML"
BROKEN = "200 with JSON that breaks off"
OTHER = "200 with JSON that is no schema"
ERROR = "500"
BUSY = "503"
NOT_FOUND = "404 without a word"
FORBIDDEN = "403"
MOVED = "302 to where nothing is"
ENDLESS = "a body without an end"
DROPPED = "the connection ends without an answer"
SILENT = "no answer until told otherwise"

MISBEHAVIOURS = [HTML, BROKEN, OTHER, ERROR, BUSY, NOT_FOUND, FORBIDDEN, MOVED, ENDLESS, DROPPED, SILENT]

_PAGE = b"<!DOCTYPE html><html><body><h1>Please log in</h1></body></html>"
_JSON = "application/vnd.schemaregistry.v1+json"


class RegistryProxy:
    """`url` is where clients go. `misbehaves` is None or one of the words above; `hidden` holds paths that
    are not found."""

    def __init__(self, registry_url, demands=None):
        """`demands` is the value of the header `Authorization` that a request must carry."""
        self.target = urlsplit(registry_url)
        self.demands = demands
        self.misbehaves = None
        self.hidden = set()
        self.guids = {}
        self.log = []
        self._changed = threading.Condition()
        self._port = 0
        self.open()

    def open(self):
        """Listens, again after `shut` at the same port."""
        self._server = _Server(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self._port}{self.target.path}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def shut(self):
        """Nothing listens any more."""
        self._server.shutdown()
        self._server.server_close()

    def close(self):
        self.misbehave(None)
        self.shut()

    def misbehave(self, how):
        with self._changed:
            self.misbehaves = how
            self._changed.notify_all()

    @contextlib.contextmanager
    def misbehaving(self, how):
        self.misbehave(how)
        yield
        self.misbehave(None)

    def asked(self, path):
        """How many requests there were for a path below the registry's URL."""
        return sum(line.split(" -> ")[0].endswith(f"{self.target.path}{path}") for line in self.log)

    def _until_told_otherwise(self, how):
        with self._changed:
            self._changed.wait_for(lambda: self.misbehaves != how, timeout=120)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that went away leaves a broken connection: expected here."""


def _handler(proxy):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def relay(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            how = proxy.misbehaves
            if how is not None:
                return self.misbehave(how)
            if proxy.demands is not None and self.headers.get("authorization") != proxy.demands:
                return self.answer(
                    401, b'{"error_code":401,"message":"Unauthorized"}', [("WWW-Authenticate", "Bearer")]
                )
            path = self.path.partition("?")[0].removeprefix(proxy.target.path)
            if path in proxy.hidden:
                code = 40402 if path.startswith("/subjects") else 40403
                return self.answer(404, json.dumps({"error_code": code, "message": "not found"}).encode())
            guid = path.removeprefix("/schemas/guids/")
            if guid in proxy.guids:
                self.path = f"{proxy.target.path}/schemas/ids/{proxy.guids[guid]}"
            connection = http.client.HTTPConnection(proxy.target.hostname, proxy.target.port, timeout=30)
            if proxy.target.scheme == "https":
                context = ssl._create_unverified_context()
                connection = http.client.HTTPSConnection(
                    proxy.target.hostname, proxy.target.port, timeout=30, context=context
                )
            with contextlib.closing(connection):
                headers = {
                    n: v for n, v in self.headers.items() if n.lower() in ("accept", "authorization", "content-type")
                }
                try:
                    connection.request(self.command, self.path, body or None, headers)
                    response = connection.getresponse()
                    content = self.with_guid(response.status, response.read())
                    self.answer(response.status, content, kind=response.getheader("content-type", _JSON))
                except OSError:
                    self.answer(502, b"")

        def with_guid(self, status, content):
            """The answer to a registration, with a GUID as Confluent's registry gives one."""
            if self.command != "POST" or status != 200:
                return content
            answer = json.loads(content)
            guid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{proxy.url}/{answer['id']}"))
            proxy.guids[guid] = answer["id"]
            return json.dumps({**answer, "guid": guid}).encode()

        def misbehave(self, how):
            if how == HTML:
                return self.answer(200, _PAGE, kind="text/html")
            if how == BROKEN:
                return self.answer(200, b'{"schema":"{\\"type\\"')
            if how == OTHER:
                return self.answer(200, b'{"status":"ok"}')
            if how == ERROR:
                return self.answer(500, b'{"error_code":50001,"message":"Error in the backend data store"}')
            if how == BUSY:
                return self.answer(503, b"", [("Retry-After", "1")])
            if how == NOT_FOUND:
                return self.answer(404, b"")
            if how == FORBIDDEN:
                return self.answer(403, b'{"error_code":40301,"message":"Forbidden"}')
            if how == MOVED:
                return self.answer(302, b"", [("Location", "http://127.0.0.1:1/elsewhere")])
            self.close_connection = True
            if how == ENDLESS:
                self.note("endless")
                self.send_response_only(200)
                self.send_header("Content-Type", _JSON)
                self.end_headers()
                self.wfile.write(b'{"schema":"')
                while proxy.misbehaves == how:
                    self.wfile.write(b" " * 65_536)
            elif how == SILENT:
                self.note("silent")
                proxy._until_told_otherwise(how)
            else:
                self.note("dropped")

        def answer(self, status, content, headers=(), kind=_JSON):
            self.note(status)
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def note(self, outcome):
            proxy.log.append(f"{self.command} {self.path} -> {outcome}")

        do_GET = do_POST = do_PUT = do_DELETE = relay

    return Handler
