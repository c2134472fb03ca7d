"""Champion against challenger on live traffic: how traffic is split, what was seen, and who is better.

An experiment is a file at the coordinator. Gateways read it and write down what they answered; outcomes arrive later;
:func:`judge` compares both models on the people whose outcome is known and may be asked as often as one likes.
"""

from ftl.registry.competition.comparison import Comparison, compare
from ftl.registry.competition.experiment import (
    Experiment,
    Limits,
    Policy,
    StopRule,
    end,
    experiments,
    read_experiment,
    running,
    start,
)
from ftl.registry.competition.observations import Exposure, Observations, Outcome, observations
from ftl.registry.competition.page import experiment_page, publish
from ftl.registry.competition.sequential import always_valid_p
from ftl.registry.competition.verdict import Verdict, judge, looks

__all__ = [
    "Comparison",
    "Experiment",
    "Exposure",
    "Limits",
    "Observations",
    "Outcome",
    "Policy",
    "StopRule",
    "Verdict",
    "always_valid_p",
    "compare",
    "end",
    "experiment_page",
    "experiments",
    "judge",
    "looks",
    "observations",
    "publish",
    "read_experiment",
    "running",
    "start",
]
