"""What a sync does when the columns of its source are no longer those of the last one."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ftl.consortium.landing import Contract
from ftl.consortium.model import ColumnType
from ftl.errors import SourceError

_TYPES: tuple[tuple[str, ColumnType], ...] = (
    (r"bool", "bool"),
    (r"timestamp|datetime", "timestamp"),
    (r"^date", "date"),
    (r"int(?!erval)|serial", "int64"),
    (r"float|double|real|numeric|decimal|number", "float64"),
)


@dataclass(frozen=True)
class Terms:
    """How the batches of a source with these columns are to be read.

    Attributes:
        beside: source column to (lake column, type): unmapped ones that land beside the mapped ones.
        missing: mapped source columns whose cells are missing, whatever the source has in them.
        stays: the landed table stays as it is, because a column that it needs is gone.
        columns: source column to the source's type, to be compared with next time.
    """

    beside: Mapping[str, tuple[str, ColumnType]]
    missing: frozenset[str]
    stays: bool
    columns: Mapping[str, str]


def judge(
    contract: Contract,
    label: str,
    mapped: Iterable[str],
    known: Mapping[str, str] | None,
    seen: Mapping[str, str],
    beside: Mapping[str, tuple[str, ColumnType]],
    taken: Iterable[str],
) -> Terms:
    """Compare the source's columns with those that the last sync accepted.

    Args:
        contract: the table's.
        label: how messages name the table.
        mapped: source columns that the mapping reads.
        known: source column to type as accepted last; None before the first sync, when nothing is new.
        seen: source column to type now.
        beside: unmapped columns that have landed so far.
        taken: lake columns that there are.

    Raises:
        SourceError: the contract freezes what has changed.
    """
    wanted = list(mapped)
    lost = [name for name in wanted if name not in seen]
    before = seen if known is None else known
    new = [name for name in seen if name not in before and name not in wanted]
    changed = [name for name in wanted if name in seen and name in before and seen[name] != before[name]]
    for found, what, setting, policy in (
        (lost, "is gone", "lost_columns", contract.lost_columns),
        (new, "is new", "new_columns", contract.new_columns),
        (changed, "has another type", "changed_types", contract.changed_types),
    ):
        if found and policy == "freeze":
            names = ", ".join(found)
            raise SourceError(
                f"{label}: at the source {names} {what}, and `contract.{setting}` is freeze.",
                cure="Correct the mapping and run a full sync, or choose another policy.",
            )
    kept = {name: place for name, place in beside.items() if name in seen and name not in wanted}
    if contract.new_columns == "evolve":
        used = [*taken, *(lake for lake, _ in kept.values())]
        for name in new:
            lake = _lake_name(name, used)
            used.append(lake)
            kept[name] = (lake, lake_type(seen[name]))
    missing = lost + (changed if contract.changed_types == "discard" else [])
    # A type that is discarded is not accepted: it is compared with the old one again next time.
    accepted = {name: before[name] if name in missing and name in before else kind for name, kind in seen.items()}
    stays = bool(lost) and contract.lost_columns == "discard"
    return Terms(kept, frozenset(missing), stays, accepted)


def lake_type(declared: str) -> ColumnType:
    """The lake type for a source's name of a type; text where no other is certain."""
    return next((kind for words, kind in _TYPES if re.search(words, declared.lower())), "string")


def _lake_name(source: str, taken: Iterable[str]) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", source.lower()).strip("_") or "column"
    name = name if name[0].isalpha() else f"column_{name}"
    used = set(taken)
    return next(n for n in (name, *(f"{name}_{number}" for number in range(2, len(used) + 3))) if n not in used)
