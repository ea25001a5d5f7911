"""A command that draws on all of its terminal: what is on it, whatever the order in which it was drawn, and whether it
leaves the terminal as it was."""

import re
import termios
import time

from .terminal import Terminal


class Screen(Terminal):
    """24 lines of 80 columns. Blanks do not count: a program that draws what has changed skips them."""

    def __init__(self, *arguments):
        super().__init__(*arguments, rows=24, columns=80, NO_COLOR="", TERM="xterm-256color")
        self.before = termios.tcgetattr(self.fd)

    def redrawn(self, lines, columns):
        """All of the screen at this size: only what has changed is drawn otherwise."""
        for height in (lines + 1, lines):
            self.raw = b""
            self.resize(height, columns)
            self.shows("quit")
        return self.drawn()

    def drawn(self):
        return re.sub(r"\s+", "", self.text())

    def shows(self, *words, timeout=30):
        deadline = time.monotonic() + timeout
        while not all(word.replace(" ", "") in self.drawn() for word in words):
            assert time.monotonic() < deadline, f"{words} not in:\n{self.drawn()}"
            self._more(0.1)

    def is_restored(self):
        """It has left the second screen, shows the cursor, and lines are edited as before."""
        left = self.raw.rfind(b"\x1b[?1049l") > self.raw.rfind(b"\x1b[?1049h")
        cursor = self.raw.rfind(b"\x1b[?25h") > self.raw.rfind(b"\x1b[?25l")
        return left and cursor and termios.tcgetattr(self.fd) == self.before
