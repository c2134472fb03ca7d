"""Recipes for the engine's tests, IN THE CLEAR: one with rounds and a state to resume, one that leaves no model.

A program kills its own process where the environment variable FTL_TEST_KILL says ``PARTY:ROUND``.
"""

import os
import signal
import time

import msgspec
import numpy as np

from ftl.channel import decode, encode
from ftl.protocols import Alone, Combiner, Outcome, Step


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rounds: int = 8
    pause: float = 0.0
    nonsense_at: int = 0
    without_baseline: bool = False


class State(msgspec.Struct, frozen=True):
    weights: list[float]
    resumed: list[int] = []


class ClearRounds:
    """Vertical gradient descent on random halves of the rows: logistic, or linear for numbers."""

    name = "clear_rounds"

    def settings(self, given):
        return msgspec.convert(given, Settings)

    def run(self, task, settings):
        first, state = self._begin(task)
        columns = np.nan_to_num(task.frame.values)[task.train]
        weights = np.array(state.weights)
        for number in range(first + 1, settings.rounds + 1):
            time.sleep(settings.pause if task.frame.party != task.active else 0.0)
            error = self._exchange(task, settings, columns @ weights, number)
            rows = np.random.default_rng((task.seed, number)).random(len(task.train)) < 0.5
            weights = weights + columns[rows].T @ error[rows] / rows.sum()
            killed_here(task.frame.party, number)
            task.checkpoints.save(number, msgspec.json.encode(State(weights.tolist(), state.resumed)))
            task.report(Step("train", number, settings.rounds))
        return self._outcome(task, settings, weights, state.resumed)

    def load(self, part, reasons):
        raise NotImplementedError

    def _begin(self, task):
        kept = task.checkpoints.latest()
        if kept is None:
            return 0, State([0.0] * len(task.frame.columns))
        state = msgspec.json.decode(kept[1], type=State)
        return kept[0], State(state.weights, [*state.resumed, kept[0]])

    def _exchange(self, task, settings, score, number):
        topic = f"round/{number}"
        if task.frame.party != task.active:
            message = b"nonsense" if number == settings.nonsense_at else encode(score)
            task.channel.send(task.active, topic, message)
            return decode(task.channel.receive(task.active, topic, task.timeout), np.ndarray, sender="", topic=topic)
        for peer in task.channel.peers:
            payload = task.channel.receive(peer, topic, task.timeout)
            score = score + decode(payload, np.ndarray, sender=peer, topic=topic)
        error = task.frame.label[task.train] - answer(task.frame.kind, score)
        for peer in task.channel.peers:
            task.channel.send(peer, topic, encode(error))
        return error

    def _outcome(self, task, settings, weights, resumed):
        own = np.nan_to_num(task.frame.values)[task.test] @ weights
        part = msgspec.json.encode(weights.tolist())
        if task.frame.party != task.active:
            task.channel.send(task.active, "test", encode(own))
            return Outcome(part)
        scores = {
            peer: decode(task.channel.receive(peer, "test", task.timeout), np.ndarray, sender=peer, topic="test")
            for peer in task.channel.peers
        }
        kind, joint = task.frame.kind, own + sum(scores.values())
        if kind == "classes":
            shares = np.full((len(task.test), len(task.frame.classes)), 1 / len(task.frame.classes))
            return Outcome(part, Combiner([], link="softmax", outputs=shares.shape[1]), shares, shares)
        return Outcome(
            part,
            Combiner([], alone={peer: Alone(0.0, []) for peer in scores}),
            None if settings.without_baseline else answer(kind, own),
            answer(kind, joint),
            alone={peer: answer(kind, score) for peer, score in scores.items()},
            notes=tuple(f"resumed after round {number}" for number in resumed),
        )


class ClearReport:
    """Counts columns and leaves no model."""

    name = "clear_report"

    def settings(self, given):
        return given

    def run(self, task, settings):
        files = {settings.get("file", "columns.txt"): " ".join(task.frame.columns).encode()}
        if task.frame.party != task.active:
            return Outcome(b"[]", private=files)
        return Outcome(b"[]", report={"columns": len(task.frame.columns), "found": {"x0": 1.5}}, private=files)


def answer(kind, score):
    return score if kind == "number" else 1 / (1 + np.exp(-score))


def killed_here(party, number):
    if os.environ.get("FTL_TEST_KILL") == f"{party}:{number}":
        os.kill(os.getpid(), signal.SIGKILL)


ROUNDS, REPORT = ClearRounds(), ClearReport()
