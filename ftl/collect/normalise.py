"""One spelling for a text, above all for identifiers: what two parties write differently must come out alike.

Twice the same: :func:`normalised` for whole columns, and :func:`normalised_text` for the one applicant of a scoring
request. Where the two could differ, in letters beyond ASCII, the second asks the first.
"""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ftl.collect.cast import Cast
from ftl.consortium.model import Normalise

BLANKS = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u200b\u200c\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
"""Unicode's white space, and the marks of no width that copying from a web page leaves behind."""

_ASCII_BLANKS = "".join(filter(str.isascii, BLANKS))

_WEIGHTS = np.array([2 ** (17 - place) % 11 for place in range(17)])
"""Of the first 17 digits; ISO 7064 MOD 11-2 has radix 2 and the check character at weight 1."""
_CHECKS = "10X98765432"
"""Check character by the weighted sum modulo 11: the two add up to 1."""
_RESIDENT_ID = r"^[1-9][0-9]{16}[0-9X]$"
_MOBILE_CN = r"^1[3-9][0-9]{9}$"
_E164 = r"^\+[1-9][0-9]{6,14}$"
_SEPARATORS = f"[{re.escape(BLANKS)}().\\-/\u2010\u2011\u2012\u2013\u2212]"
_TRUNK = {1: "1", 39: ""}
"""What stands before a national number and is not part of it, where it is not 0. Italy dials its 0 from abroad too."""


def normalised(text: pa.Array, how: Normalise, country_code: int = 86) -> Cast:
    """A column in one spelling; what is left empty is unknown.

    `resident_id` takes a Chinese resident id (GB 11643-1999): 17 digits and the check character of ISO 7064 MOD 11-2.
    `mobile_cn` takes a mobile number of mainland China, with or without +86, and gives its 11 digits. `e164` takes a
    phone number (ITU-T E.164) and gives ``+`` and up to 15 digits; one that starts with neither ``+`` nor ``00`` is
    national. All three fold full-width digits and letters first.

    Args:
        text: string, n cells.
        how: which spelling.
        country_code: of national numbers, for `e164`.

    Returns:
        string, n cells, null where there is nothing, or where it is not what `how` says; the latter `failed`.
    """
    if how in {"resident_id", "mobile_cn", "e164"}:
        return _checked(text, how, country_code)
    if how == "digits":
        text = pc.replace_substring_regex(text, "[^0-9]", "")
    elif how != "none":
        text = _trimmed(text, upper=how == "upper")
    return Cast(_given(text) if how != "none" else text, np.zeros(len(text), dtype=bool))


def _trimmed(text: pa.Array, *, upper: bool) -> pa.Array:
    """Without white space around it, in capitals where wanted; ASCII needs no look at Unicode's tables."""
    if pc.string_is_ascii(text).false_count:
        text = pc.utf8_trim(text, BLANKS)
        return pc.utf8_upper(text) if upper else text
    text = pc.ascii_trim(text, _ASCII_BLANKS)
    return pc.ascii_upper(text) if upper else text


def normalised_text(text: str, how: Normalise, country_code: int = 86) -> str | None:
    """One text in the spelling that :func:`normalised` gives it; None where that gives null."""
    if not text.isascii():
        cell: str | None = normalised(pa.array([text]), how, country_code).values[0].as_py()
        return cell
    if how in {"resident_id", "mobile_cn", "e164"}:
        return _checked_text(text, how, country_code)
    if how == "digits":
        text = re.sub("[^0-9]", "", text)
    elif how != "none":
        text = text.strip(BLANKS)
    return (text.upper() if how == "upper" else text) or (text if how == "none" else None)


def _checked(text: pa.Array, how: Normalise, country_code: int) -> Cast:
    # NFKC makes ０ a 0, Ｘ an X and （ a (, at some cost that a column of ASCII need not pay.
    folded = text if pc.all(pc.string_is_ascii(text)).as_py() else pc.utf8_normalize(text, form="NFKC")
    given = _given(pc.replace_substring_regex(folded, _SEPARATORS, ""))
    if how == "resident_id":
        given = pc.utf8_upper(given)
        good = _check_character_fits(given)
    elif how == "mobile_cn":
        given = pc.replace_substring_regex(given, r"^(\+86|0086|86)(1[0-9]{10})$", r"\2")
        good = pc.match_substring_regex(given, _MOBILE_CN)
    else:
        given = pc.replace_substring_regex(given, "^00", "+")
        national = pc.replace_substring_regex(given, _trunk(country_code), "")
        abroad = pc.starts_with(given, "+")
        given = pc.if_else(abroad, given, pc.binary_join_element_wise(f"+{country_code}", national, ""))
        good = pc.match_substring_regex(given, _E164)
    failed = pc.and_(pc.is_valid(given), pc.invert(pc.fill_null(good, fill_value=False)))
    values = pc.if_else(failed, pa.scalar(None, pa.string()), given)
    return Cast(values, np.asarray(failed.to_numpy(zero_copy_only=False), dtype=bool))


def _check_character_fits(ids: pa.Array) -> pa.Array:
    """bool, n cells: whether a cell has 18 places, of which the last follows from the others."""
    shaped = np.asarray(pc.fill_null(pc.match_substring_regex(ids, _RESIDENT_ID), fill_value=False), dtype=bool)
    good = np.zeros(len(ids), dtype=bool)
    if shaped.any():
        joined = "".join(ids.filter(pa.array(shaped)).to_pylist()).encode("ascii")
        good[shaped] = _sums_fit(np.frombuffer(joined, np.uint8).reshape(-1, 18))
    return pa.array(good)


def _sums_fit(places: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """bool, shape (n,), from the ASCII codes of n ids, shape (n, 18)."""
    sums = (places[:, :17].astype(np.int64) - ord("0")) @ _WEIGHTS % 11
    return np.asarray(np.frombuffer(_CHECKS.encode("ascii"), np.uint8)[sums] == places[:, 17])


def _checked_text(text: str, how: Normalise, country_code: int) -> str | None:
    text = re.sub(_SEPARATORS, "", text)
    if how == "resident_id":
        text = text.upper()
        return text if re.fullmatch(_RESIDENT_ID, text) and text[17] == _check_character(text) else None
    if how == "mobile_cn":
        text = re.sub(r"^(\+86|0086|86)(1[0-9]{10})$", r"\2", text)
        return text if re.fullmatch(_MOBILE_CN, text) else None
    text = re.sub("^00", "+", text)
    if text and not text.startswith("+"):
        text = f"+{country_code}{re.sub(_trunk(country_code), '', text)}"
    return text if re.fullmatch(_E164, text) else None


def _check_character(digits: str) -> str:
    return _CHECKS[sum(int(digit) * int(weight) for digit, weight in zip(digits, _WEIGHTS, strict=False)) % 11]


def _trunk(country_code: int) -> str:
    return f"^{_TRUNK.get(country_code, '0')}"


def _given(text: pa.Array) -> pa.Array:
    empty = pc.equal(text, "")
    return pc.if_else(empty, pa.scalar(None, pa.string()), text) if empty.true_count else text
