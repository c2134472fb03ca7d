"""The mathematics: one package per recipe, written as party programs over a Channel."""

from ftl.channel import Channel
from ftl.protocols.base import Base, fit_base
from ftl.protocols.recipe import Combiner, Outcome, Part, Recipe, Step, SubScores, Task

__all__ = ["Base", "Channel", "Combiner", "Outcome", "Part", "Recipe", "Step", "SubScores", "Task", "fit_base"]
