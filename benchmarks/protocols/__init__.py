"""Seconds, bytes and messages of every protocol, against a peer in the same run."""
