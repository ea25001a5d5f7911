"""An HTTP proxy before the S3 server that breaks chosen requests.

A client's signature covers its Host header, and the server checks it against the Host header that arrives: so every
header goes through as it came, and the server need not know that there is a proxy.
"""

import http.client
import math
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

# What a fault does with its request.
KILL_BEFORE = "kill before forwarding"
KILL_AFTER = "forward, kill before answering"
LAND_THEN_500 = "forward, answer 500"
REFUSE_503 = "answer 503, forward nothing"
HOLD = "wait until the fault is released, then forward"

ALWAYS = math.inf

_S3_ERROR = b'<?xml version="1.0"?><Error><Code>%s</Code><Message>fault</Message></Error>'


class Fault:
    """Strikes at the requests whose "METHOD /path" matches `pattern`: from the `nth` on, `times` times (ALWAYS: until disarmed)."""

    def __init__(self, action, pattern, nth=1, times=1, kill=None):
        self.action = action
        self.pattern = re.compile(pattern)
        self.nth = nth
        self.times = times
        self.kill = kill
        self.matched = 0
        self.struck = []
        self._released = threading.Event()

    def release(self):
        """Lets go what HOLD holds; nothing is held any more."""
        self._released.set()

    def strikes(self, request):
        if not self.pattern.search(request):
            return False
        self.matched += 1
        if self.nth <= self.matched < self.nth + self.times:
            self.struck.append(request)
            return True
        return False


class FaultProxy:
    """`endpoint` is where clients go. Faults are armed one at a time; `log` lists all writes as "METHOD /path -> status"."""

    def __init__(self, server_endpoint):
        target = urlsplit(server_endpoint)
        self._target = (target.hostname, target.port)
        self._lock = threading.Lock()
        self._fault = None
        self.log = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def arm(self, action, pattern, nth=1, times=1, kill=None):
        with self._lock:
            self._fault = Fault(action, pattern, nth, times, kill)
            return self._fault

    def disarm(self):
        with self._lock:
            if self._fault:
                self._fault.release()
            self._fault = None

    def close(self):
        self.disarm()
        self._server.shutdown()
        self._server.server_close()

    def _strike(self, request):
        with self._lock:
            if self._fault and self._fault.strikes(request):
                return self._fault
        return None

    def _forward(self, connection, method, path, headers, body):
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(body or None)
        return connection.getresponse()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that was killed leaves a broken connection: expected here."""


def _handler(proxy):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Without it every small answer waits for the client's delayed ACK.
        disable_nagle_algorithm = True
        backend = None

        def log_message(self, *_):
            pass

        def relay(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            writes = self.command in ("PUT", "POST", "DELETE")
            request = f"{self.command} {unquote(self.path)}"
            fault = proxy._strike(request) if writes else None
            if fault and fault.action == KILL_BEFORE:
                fault.kill()
                self.close_connection = True
                return
            if fault and fault.action == HOLD:
                fault._released.wait(120)
            if fault and fault.action == REFUSE_503:
                return self.answer(503, [], _S3_ERROR % b"SlowDown")

            status, headers, content = self.forward(body)
            if writes:
                proxy.log.append(f"{request} -> {status}")
            if fault and fault.action == KILL_AFTER:
                fault.kill()
                self.close_connection = True
                return
            if fault and fault.action == LAND_THEN_500:
                return self.answer(500, [], _S3_ERROR % b"InternalError")
            self.answer(status, headers, content)

        def forward(self, body):
            headers = [(n, v) for n, v in self.headers.items() if n.lower() not in ("connection", "expect")]
            # A kept connection may have been closed by the server: only then is the request sent again.
            for fresh in (False, True):
                if self.backend is None or fresh:
                    self.backend = http.client.HTTPConnection(*proxy._target, timeout=60)
                    self.backend.connect()
                    self.backend.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    response = proxy._forward(self.backend, self.command, self.path, headers, body)
                    return response.status, response.getheaders(), response.read()
                except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                    self.backend.close()
                    if fresh:
                        return 502, [], b""

        def answer(self, status, headers, content):
            self.send_response_only(status)
            length = len(content)
            for name, value in headers:
                if name.lower() == "content-length":
                    length = int(value)
                elif name.lower() not in ("connection", "transfer-encoding", "keep-alive"):
                    self.send_header(name, value)
            if status not in (204, 304):
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay

        def finish(self):
            super().finish()
            if self.backend is not None:
                self.backend.close()

    return Handler
