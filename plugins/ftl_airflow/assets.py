"""The assets: one per party and table as landed, one as validated, and the registered model.

A mapped task cannot say beforehand which of its party's tables will have news. So it declares an alias, `landed by
PARTY`, and adds to it the assets of the tables that do have; only these start something downstream.
"""

from airflow.sdk import Asset, AssetAlias

from ftl_airflow.consortium import declared, parties, tables


def landed(party: str, table: str) -> Asset:
    """A party's table as collected and mapped."""
    return _asset(party, "landed", table)


def validated(party: str, table: str) -> Asset:
    """The rows of it that passed its suite."""
    return _asset(party, "validated", table)


def by_party(party: str, stage: str) -> AssetAlias:
    """Stands for those of a party's assets of `stage` (``landed`` or ``validated``) that have news."""
    return AssetAlias(f"{stage} by {party}", group="ftl")


def landings() -> list[Asset]:
    """Every party's every table, landed."""
    return [landed(party, table) for party in parties() for table in tables(party)]


def validations() -> list[Asset]:
    """Of every party the validated table that it trains on."""
    return [validated(name, party.features.table) for name, party in declared().parties.items()]


def model() -> Asset:
    """The registered model."""
    name = declared().training.model_name
    return Asset(uri=f"ftl://coordinator/models/{name}", name=f"model {name}", group="ftl")


def _asset(party: str, stage: str, table: str) -> Asset:
    return Asset(uri=f"ftl://{party}/{stage}/{table}", name=f"{party} {stage} {table}", group="ftl")
