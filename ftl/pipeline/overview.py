"""What the nodes of this machine hold, in numbers; the consortium's page shows it."""

import msgspec

from ftl import collect as collecting
from ftl import quality
from ftl.consortium import Folder, Node


class TableOverview(msgspec.Struct, frozen=True):
    """One table of one party.

    Attributes:
        party, title, role: whose.
        table: its name in the lake.
        watermark: newest cursor value that has landed; empty before the first sync, or without cursor.
        landed, validated: rows that stand there now; 0 before the first.
        quarantined: rows that stand refused.
    """

    party: str
    title: str
    role: str
    table: str
    watermark: str
    landed: int
    validated: int
    quarantined: int


def overview(folder: Folder) -> list[TableOverview]:
    """Every table of every party, in the order of `consortium.yaml`."""
    nodes = (folder.node(party) for party in folder.consortium.parties)
    return [_overview(node, table) for node in nodes for table in node.party.tables]


def _overview(node: Node, table: str) -> TableOverview:
    landed = collecting.Lake(node.landed(table))
    has_landed = landed.version is not None
    mark = collecting.watermark(node, table) if has_landed else None
    return TableOverview(
        party=node.name,
        title=node.party.title or node.name,
        role=node.party.role,
        table=table,
        watermark="" if mark is None else str(mark),
        landed=landed.count(),
        validated=collecting.Lake(node.validated(table)).count(),
        quarantined=quality.quarantined(node, table).num_rows if has_landed else 0,
    )
