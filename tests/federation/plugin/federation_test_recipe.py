"""A small real recipe for the engine's tests: vertical logistic regression whose passive columns travel IN THE CLEAR.

It exercises what an engine must carry (many small messages, a large one, progress, a failure at a chosen party); it is
no recipe for anything else.
"""

import time

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression

from ftl.channel import decode, encode
from ftl.errors import ProtocolError
from ftl.protocols import Combiner, Outcome, Step


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rounds: int = 3
    large: int = 0
    pause: float = 0.0
    fail_at: str = ""
    crash_at: str = ""
    note_latency: bool = False


class ClearLogistic:
    name = "clear_logistic"

    def settings(self, given):
        return msgspec.convert(given, Settings)

    def run(self, task, settings):
        if task.frame.party == settings.fail_at:
            raise ProtocolError("the recipe was told to fail here.", cure="Do not tell it to.")
        if task.frame.party == settings.crash_at:
            raise ValueError("id A123 has a secret value")
        if not len(task.train):
            return self._alone(task) if task.frame.party == task.active else Outcome(part=b"null")
        side = self._active if task.frame.party == task.active else self._passive
        return side(task, settings)

    def load(self, part, reasons):
        raise NotImplementedError

    def _alone(self, task):
        frame = task.frame
        own = np.nan_to_num(frame.values)
        model = fit(own[~frame.holdout], frame.label[~frame.holdout])
        alone = model.predict_proba(own[task.test])[:, 1]
        return Outcome(b"[]", Combiner(trees=[], fell_back="nobody"), alone, alone, notes=("The run fell back.",))

    def _passive(self, task, settings):
        for number in range(settings.rounds):
            message = task.channel.receive(task.active, f"round/{number}", task.timeout)
            time.sleep(settings.pause)
            task.channel.send(task.active, f"round/{number}", message)
        if settings.large:
            task.channel.send(task.active, "large", bytes(settings.large))
        columns = np.nan_to_num(task.frame.values)
        task.channel.send(task.active, "columns", encode([columns[task.train], columns[task.test]]))
        return Outcome(part=b'{"side": "passive"}')

    def _active(self, task, settings):
        latency = [self._round(task, number) for number in range(settings.rounds)]
        for peer in task.channel.peers if settings.large else ():
            assert len(task.channel.receive(peer, "large", task.timeout)) == settings.large
        own = np.nan_to_num(task.frame.values)
        blocks = [(own[task.train], own[task.test])]
        for peer in task.channel.peers:
            payload = task.channel.receive(peer, "columns", task.timeout)
            blocks.append(tuple(decode(payload, list, sender=peer, topic="columns")))
        label = task.frame.label[task.train]
        alone = fit(blocks[0][0], label).predict_proba(blocks[0][1])[:, 1]
        train, test = (np.hstack([block[side] for block in blocks]) for side in (0, 1))
        joint = fit(train, label)
        notes = (f"median exchange {np.median(latency) * 1000:.1f} ms",) if settings.note_latency else ()
        return Outcome(
            part=msgspec.json.encode(joint.coef_.ravel().tolist()),
            combiner=Combiner(trees=[], parties=[]),
            baseline=alone,
            probability=joint.predict_proba(test)[:, 1],
            settings=msgspec.to_builtins(settings),
            notes=notes,
        )

    def _round(self, task, number):
        start = time.perf_counter()
        for peer in task.channel.peers:
            task.channel.send(peer, f"round/{number}", b"x" * 100)
        for peer in task.channel.peers:
            task.channel.receive(peer, f"round/{number}", task.timeout)
        task.report(Step("train", number + 1, 0, {"loss": 1.0 / (number + 1)}))
        return time.perf_counter() - start


def fit(values, label):
    return LogisticRegression(max_iter=200).fit(values, label)


RECIPE = ClearLogistic()
