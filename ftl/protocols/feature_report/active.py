"""The active party's program: encrypts labels, decrypts their sums over anonymous bins, and judges every column."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.crypto import AdditiveScheme, Plaintexts, SecretCipher
from ftl.errors import CipherError, FeatureError, ProtocolError
from ftl.features import Frame
from ftl.features.binning import Trend
from ftl.protocols.feature_report.columns import OwnColumn, People, all_vectors, own_columns
from ftl.protocols.feature_report.correlations import Offer, check_within, joint_matrix, offer
from ftl.protocols.feature_report.files import private_files
from ftl.protocols.feature_report.messages import (
    CHAIN,
    Labels,
    Merged,
    Stability,
    Sums,
    Verdict,
    Within,
    label_bits,
    passive_parties,
    receive,
    require,
    require_shape,
    send,
)
from ftl.protocols.feature_report.passive import STEPS
from ftl.protocols.feature_report.profile import Profile
from ftl.protocols.feature_report.selection import in_words
from ftl.protocols.feature_report.settings import LEAST_OF_A_CLASS, Settings
from ftl.protocols.feature_report.table import Entry, Judged, judge
from ftl.protocols.recipe import Outcome, Step, Task

MOST_BINS = 128
LONGEST_NAME = 100


def run_active(task: Task, settings: Settings, scheme: AdditiveScheme) -> Outcome:
    """Look at every party's columns and judge them.

    Raises:
        FeatureError: the label does not part people into good and bad.
        ProtocolError: a passive party sent something the protocol does not allow.
        ChannelTimeout: one sent nothing in time.
    """
    label = _label(task)
    parties, notes = passive_parties(task), _notes(task.frame)
    people = People.of(task.frame, task.train, task.test)
    if reason := _hopeless(label[task.train], settings):
        for party in parties:
            send(task, party, "labels", Labels(0, b"", b""))
        parties, notes = [], [f"Only columns of {task.frame.party} were looked at: {reason}.", *notes]
        people = _own_people(task, label)
    program = _Program(task, settings, label[people.train].astype(np.int64), people)
    return program.run(scheme.generate() if parties else None, parties, notes)


@dataclass
class _Program:
    """One run at the active party.

    Attributes:
        label: int64, shape (train people,): 1 is bad.
        people: rows.
        entries: what is known of each column, own ones first.
    """

    task: Task
    settings: Settings
    label: NDArray[np.int64]
    people: People
    entries: list[Entry] = field(default_factory=list)

    def run(self, cipher: SecretCipher | None, parties: list[str], notes: list[str]) -> Outcome:
        task, settings = self.task, self.settings
        columns = own_columns(task.frame, self.people.train, settings)
        together, sizes = all_vectors(columns)
        correlated = settings.correlation != "none"
        offered = self._send_all(cipher, parties, together) if cipher is not None else None
        self.entries += [self._own_entry(column, size) for column, size in zip(columns, sizes, strict=True)]
        task.report(Step("train", 1, STEPS))
        for party in parties:
            self._partner(party, cipher)
        within = {party: self._within(party) for party in parties} if correlated else {}
        own = together.T @ together / len(together)
        joint = joint_matrix(task, offered, within, own) if offered is not None else own
        task.report(Step("train", 2, STEPS))
        judged = judge(self.entries, joint, settings)
        for party in parties:
            self._tell(party, judged)
        task.report(Step("train", 3, STEPS))
        return self._outcome(columns, judged, notes)

    def _send_all(self, cipher: SecretCipher, parties: list[str], vectors: NDArray[np.float64]) -> Offer | None:
        """Labels and vectors, encrypted, to every passive party; all can then work at once."""
        people = len(self.label)
        plain = np.array([(bad << people.bit_length()) + 1 for bad in self.label.tolist()], dtype=object)
        message = Labels(people, cipher.public(), cipher.dump(cipher.encrypt(plain)))
        for party in parties:
            send(self.task, party, "labels", message)
        return offer(self.task, cipher, vectors, parties) if self.settings.correlation != "none" else None

    def _own_entry(self, column: OwnColumn, size: int) -> Entry:
        codes, bins = column.fine.codes(column.values[self.people.train]), len(column.fine.counts)
        bad = np.bincount(codes, weights=self.label, minlength=bins).astype(np.int64)
        rules = self.settings.rules(len(self.label))
        gaps = column.fine.own_missing
        profile = Profile.of(column.kind, bad, column.fine.counts, column.trend, rules, gaps=gaps)
        holdout, others = column.stability(self.people, profile.group)
        return Entry(self.task.frame.party, column.name, profile, size, holdout, others, own=True)

    def _partner(self, party: str, cipher: SecretCipher | None) -> None:
        """Learn a passive party's bins, and tell it which of them belong together."""
        assert cipher is not None  # noqa: S101 - there is a key when there are parties
        sums = receive(self.task, party, "sums", Sums)
        self._check(party, sums)
        counts = self._counts(party, sums, cipher)
        profiles = [
            self._profile(sums, place, part) for place, part in enumerate(np.split(counts, np.cumsum(sums.bins)[:-1]))
        ]
        told = [profile.told_weights() for profile in profiles] if self.settings.tell_partner_woe else []
        send(self.task, party, "merged", Merged([profile.group.tolist() for profile in profiles], told))
        stability = receive(self.task, party, "stability", Stability)
        for each in (stability.holdout, stability.others):
            require_shape(party, "stability", each, (len(profiles),))
            require(party, "stability", (np.isnan(each) | (each >= 0)).all(), "a stability index below 0")
        indices = [_optional(each) for each in (stability.holdout, stability.others)]
        names = sums.names or [f"#{number + 1}" for number in range(len(profiles))]
        for name, profile, holdout, others in zip(names, profiles, *indices, strict=True):
            self.entries.append(Entry(party, name, profile, 0, holdout, others, own=False))

    def _check(self, party: str, sums: Sums) -> None:
        """Refuse an impossible description of bins."""
        columns = len(sums.bins)
        for each in (sums.bins, sums.kinds, sums.trends, sums.gaps):
            require_shape(party, "sums", each, (columns,))
        bins = ((sums.bins >= 1) & (sums.bins <= MOST_BINS)).all() and (sums.bins > sums.gaps).all()
        require(party, "sums", columns and bins, "columns without bins, or with too many")
        flags = (sums.kinds <= CHAIN).all() and (np.abs(sums.trends) <= 1).all()
        require(party, "sums", flags, "an unknown kind of column")
        names = columns if self.settings.name_columns else 0
        proper = all(0 < len(name) <= LONGEST_NAME and name.isprintable() for name in sums.names)
        require(party, "sums", len(set(sums.names)) == len(sums.names) == names and proper, "names that cannot be")

    def _counts(self, party: str, sums: Sums, cipher: SecretCipher) -> NDArray[np.int64]:
        """Bad people and people of every bin, int64, shape (bins, 2); refuses bins with too few."""
        people, bins = len(self.label), int(sums.bins.sum())
        plain = self._decrypted(party, sums.ciphertexts, cipher, bins)
        low = (1 << people.bit_length()) - 1
        counts = np.array([[int(value) >> people.bit_length(), int(value) & low] for value in plain], dtype=np.int64)
        whole = np.add.reduceat(counts, np.concatenate([[0], np.cumsum(sums.bins)[:-1]]))
        adds_up = (whole == [self.label.sum(), people]).all() and (counts[:, 0] <= counts[:, 1]).all()
        require(party, "sums", adds_up, "sums that are not of everybody, each once")
        many = np.repeat(sums.bins > 1, sums.bins)
        smallest = int(counts[many, 1].min(initial=people))
        least = self.settings.min_bucket
        require(party, "sums", smallest >= least, f"a bin of {smallest} people, fewer than the {least} agreed")
        return counts

    def _decrypted(self, party: str, data: bytes, cipher: SecretCipher, bins: int) -> Plaintexts:
        bits = label_bits(len(self.label))
        packed = -(-bins // (cipher.capacity // bits))
        try:
            return cipher.decrypt(cipher.load(data, packed), bits, compressed=bins)
        except CipherError as exc:
            raise ProtocolError(f"{party!r} sent sums that cannot be read: {exc.message}", cure=exc.cure) from exc

    def _profile(self, sums: Sums, place: int, counts: NDArray[np.int64]) -> Profile:
        trends: Mapping[int, Trend] = {1: "rising", -1: "falling", 0: "auto"}
        trend, gaps = trends[int(sums.trends[place])], bool(sums.gaps[place])
        rules = self.settings.rules(len(self.label))
        return Profile.of(int(sums.kinds[place]), counts[:, 0], counts[:, 1], trend, rules, gaps=gaps)

    def _within(self, party: str) -> Within:
        mine = [entry for entry in self.entries if entry.party == party]
        within = receive(self.task, party, "within", Within)
        check_within(party, within, len(mine), len(self.label))
        for entry, size in zip(mine, within.sizes.tolist(), strict=True):
            entry.vectors = size
        return within

    def _tell(self, party: str, judged: Judged) -> None:
        places = [place for place, entry in enumerate(self.entries) if entry.party == party]
        values = [round(self.entries[place].profile.information_value, 2) for place in places]
        send(self.task, party, "verdict", Verdict(values, [judged.reasons[place] for place in places]))

    def _outcome(self, columns: list[OwnColumn], judged: Judged, notes: list[str]) -> Outcome:
        tables = []
        for place, column in enumerate(columns):
            profile, reason = self.entries[place].profile, judged.reasons[place]
            woe, bad = profile.weights(), profile.merged[0].tolist()
            value = profile.information_value
            words = in_words(reason)
            tables.append(column.table(place + 1, self.people, profile.group, woe, bad, value, reason, words))
        people, exact = {"people": len(self.label)}, self.settings.tell_partner_woe
        report: dict[str, Any] = {**people, **judged.report(self.entries, exact=exact)}
        private = private_files(tables) | {
            "columns.json": msgspec.json.encode({**people, **judged.report(self.entries, exact=True)}),
            "correlations.json": judged.correlations(self.entries),
        }
        return Outcome(
            part=msgspec.json.encode(tables),
            settings=self.settings.model_dump(),
            notes=tuple(notes),
            report=report,
            private=private,
        )


def _label(task: Task) -> NDArray[np.float64]:
    frame = task.frame
    if frame.label is None or frame.holdout is None:
        raise ProtocolError(f"{frame.party!r} is the active party but its frame has no label.")
    if frame.kind != "binary":
        raise FeatureError(
            f"feature_report needs a label of good and bad; that of {frame.party!r} is of kind {frame.kind!r}.",
            cure="Declare a label that says who is bad.",
        )
    if np.isnan(frame.label[task.train]).any() or frame.holdout[task.train].any():
        raise ProtocolError(
            f"{frame.party!r} was given shared training people without a label, or of the holdout.",
            cure="Train on labelled people outside the holdout only.",
        )
    return frame.label


def _notes(frame: Frame) -> list[str]:
    return [] if frame.weight is None else ["Everybody counts once: sample weights are not used."]


def _hopeless(label: NDArray[np.float64], settings: Settings) -> str:
    """Why partners' columns cannot be looked at, or nothing."""
    if len(label) < settings.min_shared:
        return f"{len(label)} shared training people are fewer than {settings.min_shared}"
    if min(label.sum(), (1 - label).sum()) < 2 * LEAST_OF_A_CLASS:
        return f"the shared training people have fewer than {2 * LEAST_OF_A_CLASS} of one class"
    return ""


def _own_people(task: Task, label: NDArray[np.float64]) -> People:
    """All labelled rows, when nobody else's columns are looked at."""
    holdout = task.frame.holdout
    assert holdout is not None  # noqa: S101 - checked with the label
    known = ~np.isnan(label)
    return People.of(task.frame, np.flatnonzero(known & ~holdout), np.flatnonzero(known & holdout))


def _optional(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
