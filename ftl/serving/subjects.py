"""What stands for an applicant in the coordinator's own files."""

from collections.abc import Mapping
from datetime import UTC, datetime

from ftl import registry
from ftl.consortium import Folder
from ftl.errors import InvalidRequest
from ftl.serving.credentials import metering_key, pseudonymise, scoring_key
from ftl.serving.metering import Meter


def subject_of(folder: Folder, identifiers: Mapping[str, str]) -> str:
    """The subject that gateways compute for an applicant with these identifiers.

    Args:
        folder: the consortium, as the coordinator has it.
        identifiers: name to text, as an application would send them.

    Raises:
        InvalidRequest: one is missing or has no such name.
        RegistryError: there is no champion, which says how identifiers are normalised.
    """
    uri, name = registry.tracking_uri(folder), folder.consortium.training.model_name
    wanted = registry.resolve(uri, name)[1].identifiers
    names = [one.name for one in wanted]
    if sorted(identifiers) != sorted(names):
        raise InvalidRequest(f"Identifiers are {', '.join(names)}.", cure="Give each of them, and nothing else.")
    pseudonym = pseudonymise(scoring_key(folder), wanted, [identifiers[name] for name in names])
    meter = Meter(folder.coordinator / "serving" / "metering", metering_key(folder), lambda: datetime.now(UTC))
    return meter.subject(pseudonym)
