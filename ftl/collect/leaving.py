"""Rows that their source marks as deleted instead of deleting them."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftl.collect.derive import Derivation
from ftl.collect.mapping import Mapping
from ftl.errors import MappingError

GONE = "_deleted"
"""Column of mapped rows where the table declares `deleted`: whether the row has left."""


class Leaving:
    """A table's `deleted` expression, ready to be applied.

    Args:
        mapping: of the table.

    Raises:
        MappingError: it is no expression over the table's columns.
    """

    def __init__(self, mapping: Mapping) -> None:
        expression, self._names = mapping.settings.deleted, mapping.schema.names
        self._derivation: Derivation | None = None
        if expression is not None:
            try:
                asked = {GONE: f"coalesce(TRY_CAST(({expression}\n) AS BOOLEAN), false)"}
                self._derivation = Derivation(mapping.label, asked, mapping.schema)
            except MappingError as error:
                message = error.message.replace(f".derived.{GONE}", ".deleted")
                raise MappingError(message, cure=error.cure) from error

    def rows(self, rows: pa.Table) -> NDArray[np.bool_]:
        """bool, shape (n,): the mapped row has left."""
        if self._derivation is None or not rows.num_rows:
            return np.zeros(rows.num_rows, dtype=bool)
        gone = self._derivation.apply(rows.select(self._names)).column(GONE)
        return np.asarray(gone.to_numpy(), dtype=bool)
