"""A party's people as its score server sees them: found by pseudonym, encoded once per model."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftl.collect import LAKE_TYPES, Derivation, cast, plain
from ftl.consortium import Node
from ftl.errors import InvalidRequest
from ftl.features import Encoder
from ftl.federation import find_recipe, read_part
from ftl.protocols import Part
from ftl.quality import read_validated, validated_version
from ftl.serving.board import Board
from ftl.serving.newest import Newest, Pseudonymise, indexed
from ftl.serving.wire import MOST_MODELS, Fields, Layout

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A loaded model part with its encoder."""

    sha256: str
    part: Part
    encoder: Encoder


@dataclass(frozen=True)
class People:
    """One version of the validated table.

    Attributes:
        version: of the Delta table.
        table: its rows.
        rows: pseudonym to row.
        encoded: run id to the encoded rows, float64, shape (n, p); filled when a model is first used.
        boards: (run id, bytes per mask) to what the model part says of everybody.
    """

    version: int | None
    table: pa.Table
    rows: dict[bytes, int]
    encoded: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    boards: dict[tuple[str, int], Board] = field(default_factory=dict)


class Population:
    """What one party's score server answers from.

    Args:
        node: the party's own installation.
        pseudonymise: makes the key of the index.
    """

    def __init__(self, node: Node, pseudonymise: Pseudonymise) -> None:
        self._node, self._pseudonymise = node, pseudonymise
        self._table = node.party.features.table
        self._overrides = Overrides(node, self._table)
        self._models: dict[str, Model] = {}
        self._loading = threading.Lock()
        self._newest = Newest(node, self._table, pseudonymise)
        self._people = self._load()

    @property
    def version(self) -> int | None:
        """Of the validated table that answers now."""
        return self._people.version

    def refresh(self) -> bool:
        """Read the validated table again if it has changed; blocks.

        Returns:
            whether it had.
        """
        if validated_version(self._node, self._table) == self._people.version:
            return False
        fresh = self._load()
        for run_id, model in list(self._models.items()):
            fresh.encoded[run_id] = model.encoder.transform(fresh.table)
        self._people = fresh
        return True

    def land(self) -> bool:
        """See what has landed in an `online` table since it was validated; blocks.

        Returns:
            whether anything had changed.

        Raises:
            LakeError: the online store or the lake cannot be read; what was known answers on.
        """
        return self._newest.look(self._people.version)

    def ready(self, run_id: str, sha256: str) -> bool:
        """Whether :meth:`rows` can answer for this part without reading files."""
        model = self._models.get(run_id)
        return model is not None and model.sha256 == sha256 and run_id in self._people.encoded

    def load(self, run_id: str, sha256: str) -> None:
        """Read a model part and encode the people for it; blocks.

        Args:
            run_id: of the run that trained it.
            sha256: as the bundle says.

        Raises:
            RegistryError: there is no such part, or its hash is another.
        """
        with self._loading:
            if self.ready(run_id, sha256):
                return
            self._models.pop(run_id, None)
            stored = read_part(self._node, run_id, sha256)
            encoder = Encoder.from_json(stored.encoder)
            part = find_recipe(stored.manifest.recipe).load(stored.part, _codes(self._node))
            self._people.encoded[run_id] = encoder.transform(self._people.table)
            self._models[run_id] = Model(sha256, part, encoder)
            for oldest in list(self._models)[:-MOST_MODELS]:
                del self._models[oldest]
                self._people.encoded.pop(oldest, None)
            for key in [key for key in self._people.boards if key[0] not in self._models]:
                del self._people.boards[key]
            log.info("serving.part loaded", extra={"party": self._node.name, "run_id": run_id})

    def rows(
        self, run_id: str, mask_bytes: int, pseudonyms: Sequence[bytes], fields: Sequence[Fields] = ()
    ) -> tuple[Layout, NDArray[np.void]]:
        """The party's share of the answer for m people; the part must be `ready`.

        Args:
            run_id: of the run that trained it.
            mask_bytes: per tree in a row.
            pseudonyms: one per person.
            fields: empty, or one mapping per person of mapped columns to values that replace the stored ones.

        Returns:
            the layout of a row, and the rows, shape (m,).

        Raises:
            InvalidRequest: a field is no mapped column, or its value does not fit the column.
        """
        people, model = self._people, self._models[run_id]
        places = np.array([people.rows.get(pseudonym, -1) for pseudonym in pseudonyms], dtype=np.int64)
        board = self._board(people, model, run_id, mask_bytes)
        rows = board.of(places)
        own, landed = fields or [{}] * len(pseudonyms), self._newest.landed
        changed = [i for i, name in enumerate(pseudonyms) if name in landed.rows or (own[i] and places[i] >= 0)]
        if changed:
            stored = (landed.of(pseudonyms[i]) or people.table.slice(int(places[i]), 1) for i in changed)
            values = [
                model.encoder.transform(self._overrides.apply(row, own[i]) if own[i] else row)
                for i, row in zip(changed, stored, strict=True)
            ]
            rows[changed] = board.layout.pack(model.part.sub_scores(np.concatenate(values), reasons=True))
        return board.layout, rows

    def fill(self) -> bool:
        """Prepare answers about some more people; blocks for some milliseconds.

        Returns:
            whether there was anybody left.
        """
        return any(board.fill() for board in list(self._people.boards.values()))

    def _board(self, people: People, model: Model, run_id: str, mask_bytes: int) -> Board:
        if (run_id, mask_bytes) not in people.boards:
            encoded, part = people.encoded[run_id], model.part
            anybody = np.zeros((1, len(part.columns)))
            layout = Layout.of(part.sub_scores(anybody, reasons=True), mask_bytes)
            people.boards[run_id, mask_bytes] = Board(
                layout, len(encoded), lambda rows: part.sub_scores(encoded[rows], reasons=True)
            )
        return people.boards[run_id, mask_bytes]

    def _load(self) -> People:
        # Version first: a table that grows in between is read again at the next look, never missed.
        version = validated_version(self._node, self._table)
        table = self._overrides.nobody() if version is None else read_validated(self._node, self._table)
        rows = indexed(table, self._node.consortium.identifiers, self._pseudonymise)
        log.info("serving.people loaded", extra={"party": self._node.name, "rows": len(rows), "version": version})
        return People(version, table, rows)


class Overrides:
    """Replaces mapped columns of a stored row and computes its derived columns again.

    Args:
        node: the party's own installation.
        table: lake name of its feature table.
    """

    def __init__(self, node: Node, table: str) -> None:
        settings = node.party.tables[table]
        self._types = {name: column.type for name, column in settings.columns.items()}
        self._asked = set(self._types) - set(node.consortium.identifiers)
        self._schema = pa.schema([(name, LAKE_TYPES[kind]) for name, kind in self._types.items()])
        self._derivation = Derivation(f"parties.{node.name}.tables.{table}", settings.derived, self._schema)
        self._one_at_a_time = threading.Lock()

    def apply(self, stored: pa.Table, fields: Fields) -> pa.Table:
        """The row with all columns of the mapping, mapped and derived.

        Args:
            stored: one row.
            fields: mapped column to JSON value.

        Raises:
            InvalidRequest: a field is no mapped column, or its value does not fit the column.
        """
        row = stored.select(self._schema.names).cast(self._schema)
        for name, value in fields.items():
            place = self._schema.get_field_index(name)
            row = row.set_column(place, self._schema.field(place), self._column(name, value))
        with self._one_at_a_time:
            return self._derivation.apply(row)

    def nobody(self) -> pa.Table:
        """The table's columns without a row: what there is before anything has been published."""
        with self._one_at_a_time:
            return self._derivation.apply(self._schema.empty_table())

    def _column(self, name: str, value: Any) -> pa.Array:
        if name not in self._asked:
            raise InvalidRequest(f"{name} is no field of an application.", field=f"fields.{name}")
        kind = self._types[name]
        result = cast(plain(pa.array([value])), kind)
        if result.failed.any():
            raise InvalidRequest(f"fields.{name} is no {kind}.", cure=f"Send a {kind}.", field=f"fields.{name}")
        return result.values


def _codes(node: Node) -> dict[str, str]:
    """Feature column to reason code; a protected column or its proxy gives none, so that it can never be named."""
    return {column: reason.code for column, reason in node.party.features.named.items()}
