"""The federated engine: party programs over a channel, in memory or over NVFlare; provisioning and evaluation."""

from ftl.federation.assessment import assess
from ftl.federation.evaluation import compare, evaluate
from ftl.federation.kits import provision
from ftl.federation.memory import MemoryEngine
from ftl.federation.nvflare_engine import NvflareEngine
from ftl.federation.parts import PartManifest, StoredPart, keep_part, read_part
from ftl.federation.party import PartyResult, run_party
from ftl.federation.ports import claim, holder, ports
from ftl.federation.recipes import find_recipe, recipe_names
from ftl.federation.run import (
    METRICS,
    ClassEvaluation,
    Curves,
    Engine,
    Evaluated,
    Evaluation,
    NumberEvaluation,
    PartPointer,
    Progress,
    Request,
    Result,
    members,
)
from ftl.federation.services import Process, processes, ready
from ftl.federation.verdict import Verdict

__all__ = [
    "METRICS",
    "ClassEvaluation",
    "Curves",
    "Engine",
    "Evaluated",
    "Evaluation",
    "MemoryEngine",
    "NumberEvaluation",
    "NvflareEngine",
    "PartManifest",
    "PartPointer",
    "PartyResult",
    "Process",
    "Progress",
    "Request",
    "Result",
    "StoredPart",
    "Verdict",
    "assess",
    "claim",
    "compare",
    "evaluate",
    "find_recipe",
    "holder",
    "keep_part",
    "members",
    "ports",
    "processes",
    "provision",
    "read_part",
    "ready",
    "recipe_names",
    "run_party",
]
