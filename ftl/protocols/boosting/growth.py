"""The key holder's side of a run: ensembles that grow round by round, and every person's margins."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import Packing, SecretCipher
from ftl.errors import ProtocolError
from ftl.protocols.boosting.candidates import Candidates
from ftl.protocols.boosting.losses import Loss
from ftl.protocols.boosting.messages import Gradients, Plan, Ready, Start, receive, send
from ftl.protocols.boosting.offers import Rules
from ftl.protocols.boosting.partition import bundles
from ftl.protocols.boosting.rounds import Round
from ftl.protocols.boosting.sampling import Sampling
from ftl.protocols.recipe import Task
from ftl.protocols.trees import Split


def packing_for(people: int) -> Packing:
    """The layout for sums over at most `people` rows of any round; see :class:`~ftl.protocols.boosting.FixedPoint`."""
    return Packing(people, gradient=1.0, hessian=1.0)


def invite(task: Task, plan: Plan | None, cipher: SecretCipher | None) -> dict[str, int]:
    """Tell every peer the plan, or that there will be no trees; returns who has how many candidates, none of them 0."""
    for party in task.channel.peers:
        send(task, party, "start", Start(plan, cipher.public() if plan and cipher else b""))
    if plan is None:
        return {}
    offered = {party: receive(task, party, "ready", Ready).candidates for party in task.channel.peers}
    for party, count in offered.items():
        if count < 0:
            raise ProtocolError(f"{party!r} says that it has {count} candidates.")
    return {party: count for party, count in offered.items() if count}


@dataclass
class Growth:
    """Ensembles that grow side by side.

    Attributes:
        task: of the run.
        plan: of the run.
        own: the active party's candidates.
        partners: passive party to its number of candidates, none of them 0; see :func:`invite`.
        cipher: with the secret key; None where there are no partners.
        rules: how splits are compared.
        loss: what is minimised.
        sampling: of rows.
        learning_rate: share of a Newton step.
        label: float64, shape (people,).
        weight: float64, shape (people,): how much each counts.
        margins: float64, shape (ensembles, people, outputs): each ensemble's, for everybody, trained on or not.
        leaves: leaf values per tree, in the order grown.
        splits: the active party's own splits.
        owners: parties that own a split, per tree.
    """

    task: Task
    plan: Plan
    own: Candidates
    partners: dict[str, int]
    cipher: SecretCipher | None
    rules: Rules
    loss: Loss
    sampling: Sampling
    learning_rate: float
    label: NDArray[np.float64]
    weight: NDArray[np.float64]
    margins: NDArray[np.float64]
    leaves: list[list[float]] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    owners: list[set[str]] = field(default_factory=list)

    def round(self, number: int, training: NDArray[np.bool_]) -> None:
        """Grow one tree per ensemble and output, and add it to the margins.

        Args:
            number: of the round.
            training: bool, shape (ensembles, people): who may train each ensemble; rows are sampled from them.

        Raises:
            ProtocolError: a passive party sent something that cannot be right.
        """
        slope, bend = (part * self.weight[:, None] for part in self.loss.derivatives(self.label, self.margins))
        factors = self.sampling.factors(number, training, np.abs(slope).sum(axis=2))
        gradient, hessian = (_by_tree(part * factors[:, :, None]) for part in (slope, bend))
        tree = Round(self, number, np.repeat(factors > 0, self.plan.outputs, axis=0), gradient, hessian)
        tree.send_gradients()
        if self.cipher is not None and number + 1 < self.plan.rounds:
            self.cipher.ahead(self._most(training))
        for level in range(self.plan.depth):
            tree.grow(level)
        steps = self.learning_rate * tree.steps()
        self.leaves += steps.tolist()
        self.owners += tree.owners
        added = np.take_along_axis(steps, tree.partition.node, axis=1)
        self.margins = self.margins + added.reshape(self.plan.ensembles, self.plan.outputs, -1).transpose(0, 2, 1)

    def _most(self, training: NDArray[np.bool_]) -> int:
        """Most ciphertexts of a round."""
        each = [self.sampling.most(int(people.sum())) for people in training for _ in range(self.plan.outputs)]
        runs = bundles(len(each), self.plan.together)
        return sum(min(sum(each[tree] for tree in run), self.plan.people) for run in runs)

    def finish(self, rounds: int) -> None:
        """Tell the partners that no round follows the last of `rounds`."""
        for partner in self.partners if rounds < self.plan.rounds else ():
            nobody = np.empty((0, 0), dtype=np.uint8)
            send(self.task, partner, f"round/{rounds}/gradients", Gradients(nobody, b""))


def _by_tree(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From (ensembles, people, outputs) to (trees, people)."""
    return np.ascontiguousarray(values.transpose(0, 2, 1).reshape(-1, values.shape[1]))
