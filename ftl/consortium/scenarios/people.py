"""Simulated identifiers of people.

They have the form of Chinese resident identity numbers (GB 11643: six digits of region, eight of birth date, three of
order, one check character by ISO 7064 MOD 11-2) and of mobile numbers, and can belong to nobody: no region code starts
with 99 and no mobile number with 100. The birth date in a number is drawn like everything else and says nothing about
the age in the data, nor does the 17th digit about the sex; otherwise a party would learn both from the number.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

REGION = "99"
MOBILE = "100"

_CHECK = "10X98765432"
_WEIGHTS = [2 ** (17 - place) % 11 for place in range(17)]
_FIRST_BIRTH = date(1930, 1, 1)
_BIRTH_DAYS = (date(1984, 12, 31) - _FIRST_BIRTH).days


@dataclass(frozen=True)
class Identity:
    """One simulated person's identifiers, as a consortium compares them: upper case, digits only."""

    id_number: str
    phone: str

    def __str__(self) -> str:
        return f"{self.id_number}|{self.phone}"


def check_character(body: str) -> str:
    """The 18th character of a resident number by ISO 7064 MOD 11-2, from its first 17 digits."""
    return _CHECK[sum(int(digit) * weight for digit, weight in zip(body, _WEIGHTS, strict=True)) % 11]


def identities(count: int, rng: np.random.Generator) -> list[Identity]:
    """`count` different people; no two share an id number or a phone."""
    places = rng.choice(10**7, size=count, replace=False)
    births = rng.integers(0, _BIRTH_DAYS, size=count)
    phones = rng.choice(10**8, size=count, replace=False)
    return [_identity(*row) for row in zip(places.tolist(), births.tolist(), phones.tolist(), strict=True)]


def _identity(place: int, birth: int, phone: int) -> Identity:
    """`place` gives region and order, so that it alone makes the number unique."""
    region, order = divmod(place, 1000)
    born = _FIRST_BIRTH + timedelta(days=birth)
    body = f"{REGION}{region:04d}{born:%Y%m%d}{order:03d}"
    return Identity(body + check_character(body), f"{MOBILE}{phone:08d}")
