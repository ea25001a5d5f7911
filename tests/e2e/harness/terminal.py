"""One command of the binary in a terminal of its own: typed at, and read as a person would, without colours."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

from .thalweg import binary, environment
from .wait import TimedOut, until

ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>78]|\r|\x07")

ENTER = "\r"
TAB = "\t"
UP = "\x1b[A"
CTRL_C = "\x03"
CTRL_D = "\x04"


class Terminal:
    def __init__(self, *arguments, rows=50, columns=200, **variables):
        variables = {**environment(), "TERM": "xterm", "NO_COLOR": "1", **variables}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(binary(), [binary(), *map(str, arguments)], variables)
        self.resize(rows, columns)
        self.raw = b""
        self.read = 0
        self.code = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def expect(self, pattern, timeout=30):
        """Reads on until `pattern` is there; returns everything up to its end that was not returned before."""
        deadline = time.monotonic() + timeout
        wanted = re.compile(pattern, re.DOTALL)
        while True:
            text = self.text()
            found = wanted.search(text, self.read)
            if found:
                start, self.read = self.read, found.end()
                return text[start : self.read]
            left = deadline - time.monotonic()
            if left < 0 or not self._more(left):
                raise TimedOut(f"no {pattern!r} in:\n{text[self.read :]}")

    def ended(self, timeout=30):
        """The exit code, once everything was read."""
        deadline = time.monotonic() + timeout
        while self._more(max(0, deadline - time.monotonic())):
            pass

        def gone():
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return [os.waitstatus_to_exitcode(status)] if pid else None

        [self.code] = until(gone, lambda: f"the command to end:\n{self.text()[self.read :]}", timeout=10)
        return self.code

    def text(self):
        return ESCAPES.sub("", self.raw.decode(errors="replace"))

    def _more(self, timeout):
        """False at the end, or when nothing came in time."""
        ready, _, _ = select.select([self.fd], [], [], timeout)
        if not ready:
            return False
        try:
            read = os.read(self.fd, 65536)
        except OSError:
            # Linux: the other side is closed.
            return False
        self.raw += read
        return bool(read)
