"""A party's lower network: one learned vector per column and bin, added up and cut to length 1.

Numbers fall into quantile bins; a category and *missing* are bins of their own. Bins that too few training people of
some batch are in share a bucket, so that every sum of gradients that comes back is over many people.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.features import BinEdges, Frame


class Table(msgspec.Struct, frozen=True):
    """The lower network as stored: plain numbers, no code.

    Attributes:
        used: numbers of the party's columns that it looks at.
        edges: of each used column; see :class:`~ftl.features.BinEdges`.
        buckets: of each used column the bucket of every bin, the one for missing last, over all columns from 0.
        vectors: one per bucket.
        centre: taken off every sum, so that vectors of the party's people lie around 0.
    """

    used: tuple[int, ...]
    edges: tuple[tuple[float, ...], ...]
    buckets: tuple[tuple[int, ...], ...]
    vectors: tuple[tuple[float, ...], ...]
    centre: tuple[float, ...]


class Lookup:
    """A stored table laid out to be read."""

    def __init__(self, table: Table) -> None:
        self.used = list(table.used)
        edges = tuple(np.array(edge, dtype=np.float64) for edge in table.edges)
        self.edges = BinEdges(edges, np.zeros(len(edges), dtype=bool))
        self.buckets = [np.array(column, dtype=np.int64) for column in table.buckets]
        self.vectors = np.array(table.vectors, dtype=np.float64)
        self.centre = np.array(table.centre, dtype=np.float64)

    def of(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Vectors of length at most 1, float64, shape (m, width), for values of shape (m, p)."""
        return cut(summed(self.vectors, buckets_of(values, self.used, self.edges, self.buckets)) - self.centre)


class Buckets:
    """How a party's columns fall into buckets, for all its people.

    Args:
        frame: the party's.
        batches: int64 each: rows of the frame, of the training people of every batch.
        max_bins: quantile bins of a numeric column.
        least: fewest people of a batch in a bucket.

    Attributes:
        used: columns with at least two buckets.
        edges: of these.
        mapped: per used column the bucket of every bin, over all columns from 0.
        codes: int64, shape (n, used): bucket of every person of the frame in every used column.
    """

    def __init__(self, frame: Frame, batches: tuple[NDArray[np.int64], ...], max_bins: int, least: int) -> None:
        edges = BinEdges.fit(frame.values, frame.categorical, max_bins)
        bins = edges.codes(frame.values)
        self.used: list[int] = []
        self.mapped: list[NDArray[np.int64]] = []
        start = 0
        for column, count in enumerate(edges.counts.tolist()):
            fewest = np.min([np.bincount(bins[rows, column], minlength=count) for rows in batches], axis=0)
            own = pooled(fewest, least, ordered=not frame.categorical[column])
            if own.max() > 0:
                self.used.append(column)
                self.mapped.append(own + start)
                start += int(own.max()) + 1
        self.total = start
        self.edges = BinEdges(tuple(edges.edges[column] for column in self.used), edges.categorical[self.used])
        self.codes = buckets_of(frame.values, self.used, self.edges, self.mapped)

    @property
    def counts(self) -> list[int]:
        """Buckets of each used column."""
        return [int(column.max() - column.min()) + 1 for column in self.mapped]

    def table(self, vectors: NDArray[np.float64]) -> Table:
        """The table with these vectors, float64, shape (buckets, width), centred on the party's people."""
        return Table(
            tuple(self.used),
            tuple(tuple(edge.tolist()) for edge in self.edges.edges),
            tuple(tuple(column.tolist()) for column in self.mapped),
            tuple(tuple(row) for row in vectors.tolist()),
            tuple(self.centre(vectors).tolist()),
        )

    def centre(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean over all the party's people, float64, shape (width,)."""
        shares = np.bincount(self.codes.ravel(), minlength=self.total) / max(len(self.codes), 1)
        return np.asarray(shares @ vectors)

    def reach(self, vectors: NDArray[np.float64]) -> float:
        """The length that nine in ten of the party's people stay within, before any is cut."""
        whole = summed(vectors, self.codes) - self.centre(vectors)
        return float(np.quantile(np.sqrt((whole * whole).sum(axis=1)), 0.9)) if len(whole) else 0.0


def pooled(fewest: NDArray[np.int64], least: int, *, ordered: bool) -> NDArray[np.int64]:
    """Bucket of every bin of a column, such that every bucket holds at least `least` people; one bucket if none can.

    Neighbouring bins of a number go together until there are enough; rare categories form one bucket. *Missing*, the
    last bin, stands alone when it is frequent and joins the last bucket when it is not.

    Args:
        fewest: int64, shape (bins,): people of each bin, in the batch that has the fewest.
        least: people that a bucket needs.
        ordered: whether neighbouring bins belong together.
    """
    buckets = np.zeros(len(fewest), dtype=np.int64)
    order = np.arange(len(fewest) - 1) if ordered else np.argsort(-fewest[:-1], kind="stable")
    number, held = 0, 0
    for place in order:
        buckets[place] = number
        held += int(fewest[place])
        if held >= least:
            number, held = number + 1, 0
    missing_alone = fewest[-1] >= least
    last = max(number - 1, 0)
    buckets[:-1] = np.minimum(buckets[:-1], last)
    buckets[-1] = last + 1 if missing_alone and number else last
    return buckets


def buckets_of(
    values: NDArray[np.float64], used: list[int], edges: BinEdges, mapped: list[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Bucket of m people in every used column, int64, shape (m, used)."""
    bins = edges.codes(values[:, used])
    # A code that training has not seen is beyond the last edge; it counts as missing.
    columns = [column[np.minimum(bins[:, j], len(column) - 1)] for j, column in enumerate(mapped)]
    return np.column_stack(columns) if columns else np.empty((len(values), 0), dtype=np.int64)


def summed(vectors: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Per person the sum of its buckets' vectors, float64, shape (m, width); column by column, so that it is exact."""
    result = np.zeros((len(codes), vectors.shape[1]))
    for column in codes.T:
        result += vectors[column]
    return result


def cut(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same directions, of length at most 1."""
    length = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    return np.asarray(vectors / np.maximum(length, 1.0))
