"""Randomness drawn ahead: by a process beside this one where there is a core for it, else while this one waits."""

import os
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ftl.crypto.drawing import CHUNK, Drawing, Drawn

WORTH_A_PROCESS = 4096
"""Encryptions to draw at once, below which a process of 0.3 s to start does not pay."""


class Ahead:
    """A stock of encryptions of zero.

    Args:
        drawing: draws them.
        beside: whether another process may be started; None where this process may use more than one core.
    """

    def __init__(self, drawing: Drawing, *, beside: bool | None = None) -> None:
        self._drawing = drawing
        self._beside = len(os.sched_getaffinity(0)) > 1 if beside is None else beside
        self._worker: _Worker | None = None
        self._stock: deque[Drawn] = deque()
        self._lock = threading.Lock()
        self._wanted = 0

    def want(self, count: int) -> None:
        """Wish that the next `count` are there when they are taken."""
        self._wanted = count
        if self._beside and self._worker is None and count >= WORTH_A_PROCESS:
            self._beside = False  # tried once
            with suppress(OSError):  # no process may be started: it is drawn here
                self._worker = _Worker(self._drawing)
        if self._worker is not None:
            self._worker.ask(count - len(self._stock))

    def take(self, count: int) -> list[Drawn]:
        """`count` of them, each given once; what is missing is drawn now."""
        with self._lock:
            while len(self._stock) < count:
                came = self._worker.came() if self._worker is not None else []
                self._stock += came or self._drawing.draw(min(CHUNK, count - len(self._stock)))
            return [self._stock.popleft() for _ in range(count)]

    def __len__(self) -> int:
        return len(self._stock)

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Draw until the block ends, where no other process does."""
        if self._worker is not None or len(self._stock) >= self._wanted:
            yield
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._fill, args=(stop,), name="randomness ahead", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _fill(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with self._lock:
                missing = self._wanted - len(self._stock)
                if missing <= 0:
                    return
                self._stock += self._drawing.draw(min(CHUNK, missing))


class _Worker:
    """The process beside; it ends when this object, or this process, does."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing, self._asked = drawing, 0
        self._bytes = sum(drawing.widths)
        program = str(Path(__file__).with_name("drawing.py"))
        process = subprocess.Popen(  # its file, not a module, so that it imports nothing of this package
            [sys.executable, "-I", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._process, self._pieces = process, deque[bytes]()
        numbers = (drawing.p, drawing.q, drawing.base, drawing.factor)
        self._write("".join(f"{number:x}\n" for number in numbers))
        threading.Thread(target=_drain, args=(process, self._pieces), name="randomness beside", daemon=True).start()
        weakref.finalize(self, _stop, process)

    def ask(self, count: int) -> None:
        """Have it draw so that `count` come, those asked for before included."""
        if count > self._asked:
            self._write(f"{count - self._asked}\n")
            self._asked = count

    def came(self) -> list[Drawn]:
        """What has come since the last time."""
        data = b"".join([self._pieces.popleft() for _ in range(len(self._pieces))])
        whole = len(data) - len(data) % self._bytes
        if whole < len(data):
            self._pieces.appendleft(data[whole:])
        drawn = self._drawing.load(data[:whole])
        self._asked -= len(drawn)
        return drawn

    def _write(self, text: str) -> None:
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # it has ended: what is missing is drawn here
                self._process.stdin.write(text.encode())


def _drain(process: "subprocess.Popen[bytes]", pieces: deque[bytes]) -> None:
    """Take what the process writes, so that a full pipe does not hold it up."""
    stream = process.stdout
    while stream is not None and (data := stream.read(1 << 16)):
        pieces.append(data)
    if stream is not None:
        stream.close()


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    process.wait()
