"""Settings of `feature_report`."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftl.errors import ConsortiumError
from ftl.features.binning import Rules, Trend
from ftl.features.dependence import Measure


class Settings(BaseModel):
    """How columns are cut, what is told to whom, and when a column is selected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bins: int = Field(6, ge=2, le=20)
    """Most merged bins of a column; missing values may have one more."""
    fine_bins: int = Field(20, ge=2, le=100)
    """Most quantile bins of a numeric column before merging. With `monotone: none` there are at most `bins`."""
    min_bucket: int = Field(20, ge=10)
    """Fewest people in any bin whose label sum may be decrypted. Both sides see to it: the owner of the column joins
    smaller bins, the active party ends the run when it decrypts a smaller one."""
    min_share: float = Field(0.05, ge=0, le=0.5)
    """Least share of the people in a merged bin."""
    monotone: Trend = "auto"
    """How the share of bad people must move along merged bins: `rising` or `falling` with the value, `auto` for
    whichever tells more, `none` for no merging at all. A column that its owner declared monotone keeps to that."""
    tell_partner_woe: bool = False
    """Whether the active party tells a partner the weight of evidence of its merged bins. With it and the bins' sizes
    the partner knows how many bad people are in each."""
    name_columns: bool = False
    """Whether partners name their columns to the active party and in the report, or number them in secret order."""
    correlation: Measure = "pearson"
    """Correlation of numeric columns by value or by rank (`spearman`); with `none` there is no correlation and no
    variance inflation, and a fraction of the work."""
    min_iv: float = Field(0.02, ge=0)
    """Least information value of a selected column."""
    max_iv: float | None = Field(None, gt=0)
    """Greatest information value; a column above it may have seen the label. None: no such check."""
    max_chance: float = Field(0.05, gt=0, le=1)
    """Greatest probability that a column which has nothing to do with the label looks as telling. With few shared
    people a high information value alone proves nothing."""
    min_gain: float = Field(0.0, ge=0, lt=1)
    """Least share of the label's deviance that the column's best two-way split explains."""
    max_psi: float = Field(0.25, gt=0)
    """Greatest stability index between training people and holdout."""
    max_correlation: float = Field(0.8, gt=0, le=1)
    """Greatest correlation with a selected column of more information value, of whichever party."""
    max_vif: float = Field(10.0, gt=1)
    """Greatest variance inflation of a selected column given the other selected ones."""
    min_shared: int = Field(100, ge=40)
    """With fewer shared training people only the active party's own columns are looked at."""
    cipher: Literal["ou", "paillier"] = "ou"
    """Okamoto–Uchiyama or Paillier (some ten times slower, and studied for longer)."""
    key_bits: int = Field(2048, ge=2048, le=8192)
    """Length of the modulus."""

    def rules(self, people: int) -> Rules:
        """For the merged bins of so many people."""
        return Rules(self.bins, max(self.min_bucket, round(self.min_share * people)), LEAST_OF_A_CLASS)

    @property
    def cuts(self) -> int:
        """Most fine bins of a numeric column."""
        return self.bins if self.monotone == "none" else self.fine_bins


LEAST_OF_A_CLASS = 5
"""Good people, and bad people, that a merged bin needs before its weight of evidence is told. In a bin with none of one
class it would tell everybody's label."""


def check(given: Mapping[str, Any]) -> Settings:
    """Freeze the settings.

    Raises:
        ConsortiumError: names the wrong key and the nearest right one, or the key, its value and what it must be.
    """
    for key in given:
        if key not in Settings.model_fields:
            near = difflib.get_close_matches(key, Settings.model_fields, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ConsortiumError(
                f"feature_report has no setting {key!r}.", cure=f"{hint}It has {', '.join(Settings.model_fields)}."
            )
    try:
        return Settings.model_validate(dict(given))
    except ValidationError as exc:
        first = exc.errors()[0]
        key = str(first["loc"][0])
        raise ConsortiumError(
            f"feature_report setting {key!r} is {given.get(key)!r}: {first['msg']}.",
            cure=f"The default is {Settings.model_fields[key].default!r}.",
        ) from exc
