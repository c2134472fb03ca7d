"""Change streams: inserts, updates and deletions of a source, in its own order, exactly once in the lake.

>>> follow(node, ["accounts"], clock, stop)                    # doctest: +SKIP
"""

from ftl.collect.stream.change import Pace
from ftl.collect.stream.feeds import drop_stream, followable
from ftl.collect.stream.follow import follow
from ftl.collect.stream.status import StreamStatus, status_of

__all__ = ["Pace", "StreamStatus", "drop_stream", "follow", "followable", "status_of"]
