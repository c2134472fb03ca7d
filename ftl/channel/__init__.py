"""The seam every party program speaks through: bytes to a named peer, and what those bytes may hold."""

from ftl.channel.codec import decode, encode
from ftl.channel.memory import Inbox, MemoryChannel, connect
from ftl.channel.recording import Message, RecordedChannel, Recording
from ftl.channel.seam import Channel

__all__ = [
    "Channel",
    "Inbox",
    "MemoryChannel",
    "Message",
    "RecordedChannel",
    "Recording",
    "connect",
    "decode",
    "encode",
]
