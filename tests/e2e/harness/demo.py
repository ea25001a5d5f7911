"""The process of `thalweg up --demo`: started in a folder of its own on free ports, asked, ended as by Ctrl-C.

It is apart from `thalweg.py` because the demo brings its own broker and prints where it listens.
"""

import re
import signal
import subprocess

from .thalweg import Client, binary, environment
from .wait import until


class DemoProcess(Client):
    """A demo in `folder`; `flags` are further ones of `thalweg up`."""

    def __init__(self, folder, *flags):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.flags = flags
        super().__init__(None)

    def start(self):
        self.out = self.folder / "out"
        self.err = self.folder / "err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [binary(), "up", "--demo", "--http-addr", "127.0.0.1:0", *self.flags],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment(), cwd=self.folder,
            )  # fmt: skip
        self.url = self.says(r"thalweg is listening on (http://\S+)")
        self.kafka = self.says(r"kcat -b (\S+) -L")
        return self

    def says(self, pattern):
        """Waits for a line of the screen, and returns what the group of the pattern has."""

        def look():
            assert self.process.poll() is None, f"it ended ({self.process.returncode}): {self.err.read_text()}"
            return re.search(pattern, self.out.read_text())

        return until(look, lambda: f"the screen to say {pattern}: {self.err.read_text()}", 120)[1]

    def stop(self):
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        said = self.err.read_text()
        assert "panicked" not in said and "ERROR" not in said, said
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
