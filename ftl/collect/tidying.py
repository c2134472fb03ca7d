"""What keeps a table's folders small: done after each sync, and by a stream every quarter of an hour."""

import logging
from datetime import datetime

from ftl.collect.lake import Lake
from ftl.consortium import Node

log = logging.getLogger(__name__)


def tidy(node: Node, table: str, now: datetime) -> int:
    """Join small files of the quarantine and remove what no version that is to be kept needs.

    The caller holds the table's lock. The validated table links the landed one's files, so neither misses what is
    removed from the other.

    Args:
        node: the party's node.
        table: lake name of the table.
        now: the present moment.

    Returns:
        number of removed files.
    """
    settings = node.party.tables[table]
    landed, quarantine, history = (Lake(place(table)) for place in (node.landed, node.quarantine, node.history))
    quarantine.compact()
    (taken_in,) = history.marks("landed")
    removed = landed.vacuum(settings.keep, now, taken_in if settings.history else None)
    removed += sum(lake.vacuum(settings.keep, now) for lake in (Lake(node.validated(table)), quarantine, history))
    if removed:
        log.info("collect.freed", extra={"table": f"{node.name}.{table}", "files": removed})
    return removed
