"""Private set intersection: which people all parties know, in one common order, without showing any list."""

from ftl.align.intersection import Alignment, align
from ftl.align.settings import AlignmentSettings, Result

__all__ = ["Alignment", "AlignmentSettings", "Result", "align"]
