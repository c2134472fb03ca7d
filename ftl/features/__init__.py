"""Validated tables become one feature frame per party: encoding, label, holdout and quantile bins."""

from ftl.features.bins import BinEdges
from ftl.features.build import build
from ftl.features.encoder import MOST_CATEGORIES, Encoder
from ftl.features.frame import Frame, Kind

__all__ = ["MOST_CATEGORIES", "BinEdges", "Encoder", "Frame", "Kind", "build"]
