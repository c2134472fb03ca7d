"""Transaction entropy: how ordered what a person does is, as an indicator that rules may use.

Our reading of the patent that names it, whose formula images are missing: per kind of event the Shannon entropy
S = −Σ f·log2 f over the shares f of its categories (which lenders were applied to, what was paid for, who collects);
the *gain* of a kind is what it lies above the base population's; the *credit entropy score* sets what is ordinary
(transactions) against what is not (applications and collections): (1 + S_transactions) / (1 + S_applications +
S_collections). Below one, disorder comes from seeking credit and being collected from rather than from spending.
"""

import math
from collections.abc import Mapping

APPLICATIONS, TRANSACTIONS, COLLECTIONS = "applications", "transactions", "collections"
KINDS = (APPLICATIONS, TRANSACTIONS, COLLECTIONS)

Counts = Mapping[str, int]
"""Category to number of events."""


def entropy(counts: Counts) -> float:
    """−Σ f·log2 f in bits; 0 without events and for events of one category.

    Args:
        counts: at least 0 each.
    """
    total = sum(counts.values())
    shares = (count / total for count in counts.values() if count > 0) if total else ()
    return max(0.0, -sum(share * math.log2(share) for share in shares))


def credit_entropy(events: Mapping[str, Counts]) -> float:
    """The credit entropy score; 1 for a person of whom nothing is known.

    Args:
        events: kind (of :data:`KINDS`) to its counts; a kind that is absent has no events.
    """
    found = {kind: entropy(events.get(kind, {})) for kind in KINDS}
    return (1 + found[TRANSACTIONS]) / (1 + found[APPLICATIONS] + found[COLLECTIONS])


def gain(events: Mapping[str, Counts], base: Mapping[str, float]) -> float:
    """Entropy above the base population's, summed over the kinds that both know.

    Args:
        events: kind to its counts.
        base: kind to the base population's entropy.
    """
    return sum(entropy(counts) - base[kind] for kind, counts in events.items() if kind in base)
