"""What the table's contract says when the columns of the source change while it is followed."""

from collections.abc import Mapping

from ftl.collect.contract import judge
from ftl.collect.identity import identity_of
from ftl.collect.mapping import Mapping as FieldMapping
from ftl.collect.source import require_columns
from ftl.errors import SourceError


class Terms:
    """Compares each description of the source's columns with the one before.

    Args:
        label: how messages name the source.
        mapping: of the table.

    Attributes:
        known: source column to the source's type, as accepted last; None before the first description.
    """

    def __init__(self, label: str, mapping: FieldMapping) -> None:
        self._label, self._mapping = label, mapping
        self.known: Mapping[str, str] | None = None

    def missing(self, seen: Mapping[str, str]) -> frozenset[str]:
        """Mapped columns whose cells are missing from now on.

        Args:
            seen: source column to the source's type.

        Raises:
            SourceError: the contract freezes what has changed, or a column is gone that the key is made of.
        """
        mapping, contract = self._mapping, self._mapping.settings.contract
        table, lost = mapping.settings.table, contract.lost_columns
        asked = mapping.source_columns if lost == "freeze" else identity_of(mapping)
        require_columns(self._label, table, asked, seen)
        terms = judge(contract, mapping.label, mapping.source_columns, self.known, seen, {}, mapping.schema.names)
        if terms.stays:
            raise SourceError(
                f"{self._label}: table {table!r} has lost a column, and `contract.lost_columns` is discard: the landed "
                "table stays as it is.",
                cure="Correct the mapping, run a full sync, and start the stream again.",
            )
        self.known = terms.columns
        return terms.missing
