"""Who takes part: parties, nodes, sources; loads and validates `consortium.yaml`; writes new ones."""

from ftl.consortium.folder import Folder, Node
from ftl.consortium.model import Consortium
from ftl.consortium.problem import Problem
from ftl.consortium.scenarios import SCENARIOS, Setting, advance, new, redraw
from ftl.consortium.schema import schema
from ftl.consortium.validation import load, locate, problems

__all__ = [
    "SCENARIOS",
    "Consortium",
    "Folder",
    "Node",
    "Problem",
    "Setting",
    "advance",
    "load",
    "locate",
    "new",
    "problems",
    "redraw",
    "schema",
]
