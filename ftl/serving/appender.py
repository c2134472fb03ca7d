"""Lines for a file, gathered and written together."""

import os
from pathlib import Path


class Appender:
    """Appends to a file that only its owner may read; whole lines in one write, so that several processes may share it.

    Lines are gathered until :meth:`flush`: a process that dies loses those of its last moment.

    Args:
        path: of the file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._lines: list[bytes] = []

    def add(self, line: bytes) -> None:
        """Gather one line, without its end."""
        self._lines.append(line)

    def flush(self) -> None:
        """Write what has been gathered."""
        if self._lines:
            os.write(self._file, b"\n".join(self._lines) + b"\n")
            self._lines = []

    def close(self) -> None:
        """Write what has been gathered and close the file; no line may follow."""
        self.flush()
        os.close(self._file)
