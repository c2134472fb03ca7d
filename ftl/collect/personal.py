"""Which columns look like personal data, from their names, the spelling of their values and the values themselves."""

import re

import pyarrow as pa
import pyarrow.compute as pc

from ftl.consortium.model import Normalise

_PERSONAL = (
    ("e-mail address", r"mail|邮箱"),
    ("name", r"(^|_)(first|last|sur|full|family|given)?_?name$|姓名|户名"),
    ("phone number", r"phone|mobile|(^|_)tel(_|$)|电话|手机"),
    ("identity document", r"id_?(no|num|number|card)|(^|_)ssn|passport|(^|_)nin(_|$)|bvn|证件|身份证"),
    ("address", r"addr|street|地址|住址"),
    ("date of birth", r"birth|(^|_)dob(_|$)|(^|_)born|出生|生日"),
    ("account number", r"iban|account_?(no|num)|card_?(no|num)|账号|卡号"),
    ("network address", r"(^|_)ip(_|$)|(^|_)imei|(^|_)mac(_|$)"),
)
_BY_SPELLING = {"resident_id": "resident id", "mobile_cn": "mobile number", "e164": "phone number"}
_EMAIL = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
_MOST = 0.95
"""Share of the texts that must be addresses before the column is taken to hold them."""


def personal_sort(names: str, spelling: Normalise = "none", words: pa.Array | None = None) -> str:
    """Which sort of personal data a column seems to hold; empty where it seems to be none.

    Args:
        names: of the column, at the source and in the lake, one a line.
        spelling: how its values are normalised.
        words: string, n cells: some of its values.
    """
    if spelling in _BY_SPELLING:
        return _BY_SPELLING[spelling]
    if words is not None and len(words) and (pc.mean(pc.match_substring_regex(words, _EMAIL)).as_py() or 0) >= _MOST:
        return "e-mail address"
    lower = names.lower()
    return next((what for what, pattern in _PERSONAL if re.search(pattern, lower, re.MULTILINE)), "")
