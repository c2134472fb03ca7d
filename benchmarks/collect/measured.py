"""What a measured process says of itself; needs nothing but Python, so that a peer's own environment can use it."""

from pathlib import Path


def peak_mb() -> float:
    """Most memory that this process ever held, in megabytes; that of the process that started it does not count."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) * 1024 / 1e6


def readable_at(table: Path) -> float:
    """Moment of a Delta table's newest commit, in seconds since 1970: from then on its rows can be read."""
    return max(commit.stat().st_mtime for commit in (table / "_delta_log").glob("*.json"))
