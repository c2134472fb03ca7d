"""Approval of a policy: who said that it may count, and that nothing of it was changed since.

A gateway decides by a policy only while it passes its own examples and, once it was approved with :func:`approve`,
while its files are those that were approved.
"""

import hashlib
import json
from datetime import date
from pathlib import Path

from ftl.crypto.keystore import replace
from ftl.decision.declared import POLICY, Plain, read
from ftl.decision.policy import EXAMPLES, GRAPH, Policy
from ftl.errors import PolicyError

_OF_APPROVAL = {"approved_by", "approved_digest"}


def trusted(place: Path) -> Policy:
    """A policy that may decide.

    Args:
        place: its folder.

    Raises:
        PolicyError: a file is wrong, an example fails, or the policy was changed after its approval.
    """
    policy = _passing(place)
    approved = policy.declared.approved_digest
    if approved and approved != digest(place):
        raise PolicyError(
            f"{place} was changed after {policy.declared.approved_by} approved it.", cure="Run `ftl policy approve`."
        )
    return policy


def approve(place: Path, by: str, effective_from: date | None = None) -> Policy:
    """Write into a policy who approves it as it stands now.

    Args:
        place: its folder.
        by: who approves.
        effective_from: first day on which it counts; as its file says when None.

    Returns:
        the policy as approved.

    Raises:
        PolicyError: a file is wrong, an example fails, or nobody is named.
    """
    if not by.strip():
        raise PolicyError("An approval needs a name.", cure="Say who approves.")
    _passing(place)
    declared: Plain = read(place / POLICY, dict)
    if effective_from:
        declared["effective_from"] = effective_from.isoformat()
    declared |= {"approved_by": by, "approved_digest": _digest(place, declared)}
    replace(place / POLICY, (json.dumps(declared, indent=2, ensure_ascii=False) + "\n").encode(), mode=0o644)
    return trusted(place)


def digest(place: Path) -> str:
    """SHA-256, in hex, of everything that a policy says but its approval.

    Args:
        place: its folder.
    """
    return _digest(place, read(place / POLICY, dict))


def _digest(place: Path, declared: Plain) -> str:
    said = {name: value for name, value in declared.items() if name not in _OF_APPROVAL}
    told = json.dumps([said, read(place / GRAPH, dict), read(place / EXAMPLES, list)], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _passing(place: Path) -> Policy:
    policy = Policy(place)
    if failed := policy.failures():
        one = failed[0]
        raise PolicyError(
            f"{place} fails its example {one.name!r}: {one.key} is {one.found!r}, {one.expected!r} was expected.",
            cure="Run `ftl policy test`.",
        )
    return policy
