"""New consortium folders: a commented file to fill in, or a whole scenario with data."""

from ftl.consortium.scenarios.folder import SCENARIOS, Setting, new, redraw
from ftl.consortium.scenarios.later import advance

__all__ = ["SCENARIOS", "Setting", "advance", "new", "redraw"]
