"""A whole run in the threads of this process, and everything that was said in it."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np

from ftl.channel import Recording, connect, decode
from ftl.crypto import AdditiveScheme, PublicCipher, SecretCipher, scheme_of
from ftl.features import Frame
from ftl.protocols import Outcome, Recipe, Task, base
from ftl.protocols.combine import answer

SEED = 1
TIMEOUT = 300.0


class OpenScheme:
    """The real cipher, whose secret key an attacker has: the defence is off."""

    def __init__(self) -> None:
        self.inner: AdditiveScheme = scheme_of("ou", 2048)
        self.key: SecretCipher | None = None

    def generate(self) -> SecretCipher:
        """A fresh key, which is kept for the attacker."""
        self.key = self.inner.generate()
        return self.key

    def load_public(self, public: bytes) -> PublicCipher:
        """As the scheme inside."""
        return self.inner.load_public(public)

    def opened(self, data: bytes, length: int) -> list[int]:
        """The plaintexts of what was sent."""
        assert self.key is not None
        return [int(value) for value in self.key.decrypt(self.key.load(data, length), self.key.capacity)]


@dataclass(frozen=True)
class Heard:
    """A finished run.

    Attributes:
        frames: the bank's and the telecom's.
        recipe: that ran.
        outcomes: party to what its program returned.
        recording: every message.
    """

    frames: list[Frame]
    recipe: Recipe
    outcomes: Mapping[str, Outcome]
    recording: Recording

    def said(self, sender: str, kind: str) -> Iterator[tuple[str, Any]]:
        """Topic and content of every message of a party whose topic names `kind`, as plain values."""
        for message in self.recording.messages:
            if message.sender == sender and kind in message.topic.split("/"):
                yield message.topic, decode(message.payload, dict, sender=sender, topic=message.topic)

    def answers(self) -> np.ndarray:
        """The model's answer for all people, shape (n,)."""
        scores = {
            frame.party: self.recipe.load(self.outcomes[frame.party].part, {}).sub_scores(frame.values)
            for frame in self.frames
        }
        combiner = self.outcomes["bank"].combiner
        assert combiner is not None
        return answer(combiner, "bank", scores)


def carry_out(recipe: Recipe, frames: list[Frame], given: Mapping[str, Any]) -> Heard:
    """Run every party's program; raises what the first party to fail raised."""
    recording = Recording(payloads=True)
    channels = connect([frame.party for frame in frames], recording)
    holdout = frames[0].holdout
    assert holdout is not None
    train, test = np.flatnonzero(~holdout), np.flatnonzero(holdout)
    outcomes: dict[str, Outcome] = {}
    errors: list[BaseException] = []

    def program(frame: Frame) -> None:
        task = Task(frame, train, test, "bank", channels[frame.party], SEED, TIMEOUT, lambda _step: None)
        try:
            outcomes[frame.party] = recipe.run(task, recipe.settings(given))
        except BaseException as exc:  # noqa: BLE001  (raised again in the caller's thread)
            errors.append(exc)
            channels[frame.party].close(str(exc))

    threads = [threading.Thread(target=program, args=(frame,)) for frame in frames]
    # The bank's own model takes most of the time and is attacked by nobody: no choice among settings, the small one.
    with patch.object(base, "CANDIDATES", base.CANDIDATES[-1:]):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return Heard(frames, recipe, outcomes, recording)
