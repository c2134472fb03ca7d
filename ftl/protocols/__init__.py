"""The mathematics: one package per recipe, written as party programs over a Channel."""

from ftl.channel import Channel
from ftl.protocols.base import Base, fit_base
from ftl.protocols.recipe import (
    Alone,
    Checkpoints,
    Combiner,
    Layer,
    NoCheckpoints,
    Outcome,
    Part,
    Recipe,
    Step,
    SubScores,
    Task,
)

__all__ = [
    "Alone",
    "Base",
    "Channel",
    "Checkpoints",
    "Combiner",
    "Layer",
    "NoCheckpoints",
    "Outcome",
    "Part",
    "Recipe",
    "Step",
    "SubScores",
    "Task",
    "fit_base",
]
