"""A command on a terminal of its own: what it draws, what is typed, whether it leaves the terminal as it was."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

from .thalweg import environment

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>78])")


class Screen:
    """24 lines of 80 columns. Blanks do not count: a program that draws what has changed skips them."""

    def __init__(self, *command):
        self.output = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(command[0], [str(word) for word in command], {**environment(), "TERM": "xterm-256color"})
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.fd)
        self.code = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def resize(self, lines, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys):
        os.write(self.fd, keys.encode())

    def redrawn(self, lines, columns):
        """All of the screen at this size: only what has changed is drawn otherwise."""
        for height in (lines + 1, lines):
            self.output = ""
            self.resize(height, columns)
            self.shows("quit")
        return self.text()

    def text(self):
        return re.sub(r"\s+", "", ESCAPES.sub("", self.output))

    def shows(self, *words, timeout=30):
        deadline = time.monotonic() + timeout
        while not all(word.replace(" ", "") in self.text() for word in words):
            assert time.monotonic() < deadline, f"{words} not in:\n{self.text()}"
            self._read(0.1)

    def _read(self, wait):
        """False once the other end is closed."""
        if select.select([self.fd], [], [], wait)[0]:
            try:
                chunk = os.read(self.fd, 65536)
            except OSError:
                return False
            self.output += chunk.decode(errors="replace")
            return bool(chunk)
        return True

    def ends(self, timeout=30):
        """Waits for the command's end and gives its exit code."""
        deadline = time.monotonic() + timeout
        while self.code is None:
            assert time.monotonic() < deadline, f"it goes on:\n{self.text()}"
            self._read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        while self._read(0):
            if not select.select([self.fd], [], [], 0)[0]:
                break
        return self.code

    def is_restored(self):
        """It has left the second screen, shows the cursor, and lines are edited as before."""
        left = self.output.rfind("\x1b[?1049l") > self.output.rfind("\x1b[?1049h")
        cursor = self.output.rfind("\x1b[?25h") > self.output.rfind("\x1b[?25l")
        return left and cursor and termios.tcgetattr(self.fd) == self.before
