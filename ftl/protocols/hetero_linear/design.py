"""A party's columns as those of a regression: standardised numbers, and indicators of categories and missing values.

Everything is decided inside the party, on its shared training people. A missing number counts as the mean; where enough
people miss it, an indicator has a coefficient of its own. Of a category the most frequent value is the reference; rare
values count as the reference. Columns that the ones before them determine are left out.
"""

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.features import Frame

Floats = NDArray[np.float64]

COLLINEAR = 1e-6
"""Share of a column's variance that the columns before it must leave unexplained."""


class Term(msgspec.Struct, frozen=True):
    """One column of the regression: (x - mean) / deviation.

    Attributes:
        column: number of the party's column.
        kind: ``number``: its value, ``missing``: whether there is none, ``category``: whether its code is `code`.
        mean: over the shared training people.
        deviation: likewise, population form.
        code: of the category.
        sign: 1 where the coefficient may not be negative, -1 where not positive, 0 for either.
    """

    column: int
    kind: Literal["number", "missing", "category"]
    mean: float
    deviation: float
    code: int = 0
    sign: int = 0

    def values(self, column: Floats) -> Floats:
        """float64, shape (m,), of a column of m values."""
        if self.kind == "number":
            raw = np.where(np.isnan(column), self.mean, column)
        else:
            raw = (np.isnan(column) if self.kind == "missing" else column == self.code).astype(np.float64)
        return np.asarray((raw - self.mean) / self.deviation)


class Design(msgspec.Struct, frozen=True):
    """How a party's columns become those of the regression.

    Attributes:
        terms: p of them.
    """

    terms: tuple[Term, ...]

    def matrix(self, values: Floats) -> Floats:
        """float64, shape (m, p), for `values` of shape (m, columns)."""
        if not self.terms:
            return np.empty((len(values), 0))
        return np.column_stack([term.values(values[:, term.column]) for term in self.terms])

    def names(self, frame: Frame) -> list[str]:
        """What each term is called: ``age``, ``age is missing``, ``region = north``."""
        return [_name(term, frame) for term in self.terms]


def fit_design(frame: Frame, rows: NDArray[np.int64], min_rows: int) -> Design:
    """The terms of a frame's columns.

    Args:
        frame: of the party.
        rows: int64, the shared training people.
        min_rows: fewest people in an indicator, or with another than a number's most frequent value.
    """
    terms: list[Term] = []
    for number, name in enumerate(frame.columns):
        column = frame.values[rows, number]
        sign = int(frame.monotone[number]) if frame.monotone is not None else 0
        count = len(frame.categories[name]) if name in frame.categories else None
        terms += _of_number(number, column, sign, min_rows) if count is None else _of_codes(number, column, min_rows)
    return Design(_independent(tuple(terms), frame.values[rows]))


def _of_number(number: int, column: Floats, sign: int, min_rows: int) -> list[Term]:
    known = column[~np.isnan(column)]
    terms = []
    if len(known) and len(known) - np.unique(known, return_counts=True)[1].max() >= min_rows:
        mean = float(known.mean())
        filled = np.where(np.isnan(column), mean, column)
        terms.append(Term(number, "number", mean, float(filled.std()), sign=sign))
    return terms + _missing(number, column, min_rows)


def _of_codes(number: int, column: Floats, min_rows: int) -> list[Term]:
    codes, counts = np.unique(column[~np.isnan(column)], return_counts=True)
    terms = []
    for place, (code, count) in enumerate(zip(codes, counts, strict=True)):
        if place != counts.argmax() and count >= min_rows:
            terms.append(_indicator(number, "category", column == code, int(code)))
    return terms + _missing(number, column, min_rows)


def _missing(number: int, column: Floats, min_rows: int) -> list[Term]:
    missing = np.isnan(column)
    return [_indicator(number, "missing", missing)] if min_rows <= missing.sum() <= len(column) - min_rows else []


def _indicator(number: int, kind: Literal["missing", "category"], is_so: NDArray[np.bool_], code: int = 0) -> Term:
    return Term(number, kind, float(is_so.mean()), float(is_so.std()), code)


def _independent(terms: tuple[Term, ...], values: Floats) -> tuple[Term, ...]:
    """Those that the terms before them do not determine: variance left after regression on them."""
    if not terms:
        return ()
    matrix = Design(terms).matrix(values)
    correlation = matrix.T @ matrix / len(matrix)
    kept: list[int] = []
    for place in range(len(terms)):
        left = correlation[place, place]
        if kept:
            inner, outer = correlation[np.ix_(kept, kept)], correlation[kept, place]
            left -= outer @ np.linalg.solve(inner, outer)
        if left > COLLINEAR:
            kept.append(place)
    return tuple(terms[place] for place in kept)


def _name(term: Term, frame: Frame) -> str:
    name = frame.columns[term.column]
    if term.kind == "number":
        return name
    return f"{name} is missing" if term.kind == "missing" else f"{name} = {frame.categories[name][term.code]}"
