"""Where things lie: the folder of a consortium, and in it each node's and the coordinator's own folders.

On one machine they stand side by side; in a deployment each party has only its own. Nothing that runs at a party may
ask for another party's :class:`Node`.
"""

from dataclasses import dataclass
from pathlib import Path

from ftl.consortium.model import Consortium, Party


@dataclass(frozen=True)
class Node:
    """One party's installation: its settings and its folders.

    Attributes:
        root: the consortium folder, against which the party's relative source paths are resolved.
        name: the party.
        party: its part of `consortium.yaml`.
        consortium: the whole file.
    """

    root: Path
    name: str
    party: Party
    consortium: Consortium

    @property
    def home(self) -> Path:
        """The node's own folder."""
        return self.root / (self.party.home or Path("var/nodes") / self.name)

    @property
    def keys(self) -> Path:
        """Secrets; mode 0700."""
        return self.home / "keys"

    @property
    def docs(self) -> Path:
        """Data Docs."""
        return self.home / "data_docs"

    def landed(self, table: str) -> Path:
        """Delta table as collected and mapped."""
        return self.home / "lake" / "landed" / table

    def validated(self, table: str) -> Path:
        """Delta table of rows that passed the suite."""
        return self.home / "lake" / "validated" / table

    def quarantine(self, table: str) -> Path:
        """Delta table of refused rows with reason and batch."""
        return self.home / "lake" / "quarantine" / table

    def history(self, table: str) -> Path:
        """Delta table of every state that the landed rows had."""
        return self.home / "lake" / "history" / table

    def run(self, run_id: str) -> Path:
        """Folder of what this party keeps of a run under way; removed when the run has ended."""
        return self.home / "runs" / run_id

    def model(self, run_id: str) -> Path:
        """Folder of this party's part of the model that `run_id` trained."""
        return self.home / "models" / run_id


@dataclass(frozen=True)
class Folder:
    """A folder with a `consortium.yaml`, loaded."""

    root: Path
    consortium: Consortium

    @property
    def coordinator(self) -> Path:
        """The coordinator's own folder."""
        return self.root / self.consortium.coordinator.home

    def run(self, run_id: str) -> Path:
        """The coordinator's folder for one run: request, progress, result."""
        return self.coordinator / "runs" / run_id

    def node(self, party: str) -> Node:
        """One party's node; KeyError-free only for parties of this consortium."""
        return Node(self.root, party, self.consortium.parties[party], self.consortium)
