"""Private set intersection: which people all parties know, in one common order, without showing any list."""

from ftl.align.intersection import Alignment, align

__all__ = ["Alignment", "align"]
