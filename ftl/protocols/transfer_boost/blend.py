"""How the base's margin, what the partners' columns say of the base's opinion, and the label trees go together.

The margin is γ · base + κ · opinion + β · labels + intercept. *Opinion* is what the partners' columns say of the active
party's own answer p. Were the two views of a person independent given her label, then P(y | z) − P(y) would be
(E[p | z] − E[p]) / R², with R² = Var(p) / Var(y): the opinion, stretched by how little p says of y. Views of the same
life are not independent, so κ is a share of that. It, β and the intercept are fitted to held-out people by penalised
Newton steps around values that hold on many data sets; with few people they stay there, with many they go where the
labels say. γ makes room for what the others repeat of the base.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.protocols.boosting import Loss
from ftl.protocols.recipe import Task
from ftl.protocols.transfer_boost.start import People

KAPPA = 0.4
"""Share of the independent views' step, for an opinion that could be read without error."""
KAPPA_PEOPLE = 1000
"""With so many shared people the labels say half of it themselves."""
BETA_PEOPLE = 200
"""With so many shared people half of what the label trees say is believed."""
PRIOR = np.array([0.0, 1.0, 0.0, 0.0])
SPREAD = np.array([30.0, 0.3, 0.05, 0.1])
"""Standard deviations of (intercept, γ, κ, β) around their prior values."""
LEAST_SHARE = 0.01
"""Of the label's variance that the base explains; below it an opinion is not worth learning."""
STEPS = 25


@dataclass(frozen=True)
class Blend:
    """The fitted weights, for margins that are centred as in training.

    Attributes:
        intercept: added.
        base: γ.
        opinion: κ, on the stretched opinion.
        label: β.
    """

    intercept: float
    base: float
    opinion: float
    label: float

    def margin(
        self, base: NDArray[np.float64], opinion: NDArray[np.float64], label: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The joint margin, float64, of the arrays' shape."""
        return self.intercept + self.base * base + self.opinion * opinion + self.label * label


@dataclass(frozen=True)
class Opinion:
    """The active party's own answers as something to learn.

    Attributes:
        target: float64, shape (shared,): its honest answers to the shared people, centred and stretched to margins.
        weight: float64, shape (shared,).
    """

    target: NDArray[np.float64]
    weight: NDArray[np.float64]

    @classmethod
    def of(cls, task: Task, people: People, honest: NDArray[np.float64]) -> "Opinion":
        """Stretch the answers of the base.

        Args:
            task: of the run.
            people: the shared ones.
            honest: float64, shape (n,): margin of each row of the frame by a model that has not seen it, or NaN.
        """
        rows = np.flatnonzero(~np.isnan(honest))
        answers, spread = people.answer(honest[rows]), float(_labels_of(task, rows).var())
        least = LEAST_SHARE * spread
        per_answer = (1.0 if people.loss.link == "logit" else spread) / max(float(answers.var()), least, 1e-300)
        own = people.answer(people.base)
        return cls((own - np.average(own, weights=people.weight)) * per_answer, people.weight)

    def trust(self, learned: NDArray[np.float64]) -> float:
        """κ before labels are asked: less where held-out people's opinions are not what was learned.

        Args:
            learned: float64, shape (shared,): held-out predictions of the target.
        """
        people = len(learned)
        if learned.std() == 0 or self.target.std() == 0:
            return 0.0
        sure = float(np.corrcoef(learned, self.target)[0, 1]) - 1 / np.sqrt(people)
        return float(KAPPA * max(sure, 0.0) / (1 + people / KAPPA_PEOPLE))


def _labels_of(task: Task, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.zeros(len(rows)) if task.frame.label is None else task.frame.label[rows]


def fit_blend(
    loss: Loss,
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    parts: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    trust: float,
) -> Blend:
    """Fit the weights to held-out people.

    Args:
        loss: what is minimised, per person.
        target: float64, shape (shared,): labels.
        weight: float64, shape (shared,).
        parts: base, opinion and label margins of the shared people, all by models that have not seen them.
        trust: prior value of κ; with 0 the opinion is left out.
    """
    people = len(target)
    base = np.average(parts[0], weights=weight)
    design = np.column_stack([np.ones(people), parts[0] - base, parts[1] if trust else np.zeros(people), parts[2]])
    prior = PRIOR + np.array([base, 0.0, trust, people / (people + BETA_PEOPLE)])
    noise = 1.0 if loss.link == "logit" else max(float(np.average((target - parts[0]) ** 2, weights=weight)), 1e-12)
    spread = SPREAD * np.array([np.sqrt(noise), 1.0, 1.0, 1.0])
    weights = prior.copy()
    for _ in range(STEPS):
        slope, bend = loss.derivatives(target, (design @ weights)[:, None])
        pull = (weights - prior) / spread**2
        gradient = design.T @ (weight * slope[:, 0]) / noise + pull
        hessian = (design * (weight * bend[:, 0])[:, None]).T @ design / noise + np.diag(1 / spread**2)
        weights = weights - np.linalg.solve(hessian, gradient)
    opinion, label = (max(float(value), 0.0) for value in weights[2:])
    intercept = float(weights[0] - weights[1] * base)
    return Blend(intercept, float(weights[1]), opinion if trust else 0.0, label)


def fit_scale(
    loss: Loss,
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    start: NDArray[np.float64],
    added: NDArray[np.float64],
) -> float:
    """Factor, at least 0, on what trees add to a start; with a normal prior around 1, like γ's."""
    noise = (
        1.0 if loss.link == "logit" else max(float(np.average((target - start - added) ** 2, weights=weight)), 1e-12)
    )
    factor = 1.0
    for _ in range(STEPS):
        slope, bend = loss.derivatives(target, (start + factor * added)[:, None])
        gradient = float(np.dot(added, weight * slope[:, 0])) / noise + (factor - 1) / SPREAD[1] ** 2
        hessian = float(np.dot(added * added, weight * bend[:, 0])) / noise + 1 / SPREAD[1] ** 2
        factor -= gradient / hessian
    return float(max(factor, 0.0))
