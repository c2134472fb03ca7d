"""The bundle: all that the registry holds of a federated model.

It ties the parties' parts together by their hashes and says how to combine their sub-scores. The parts themselves
(thresholds, encoders) stay in their nodes; nothing here tells where a partner splits.
"""

import msgspec

from ftl.consortium import Consortium, Folder
from ftl.consortium.deciding import Scorecard
from ftl.consortium.model import ColumnType, Features, Normalise
from ftl.errors import RegistryError
from ftl.federation import Result
from ftl.protocols import Combiner

BUNDLE_FILE = "bundle.json"


class Identifier(msgspec.Struct, frozen=True):
    """One of the columns that together name a person, and how its text is brought into one form."""

    name: str
    type: ColumnType = "string"
    normalise: Normalise = "none"
    country_code: int = 86


class PartyPart(msgspec.Struct, frozen=True):
    """One party's share of the model, without its content.

    Attributes:
        sha256: hex digest over the part and its encoder, as the node reported it.
        columns: how many feature columns the party uses.
        reasons: reason code to the text an applicant reads; protected columns and their proxies give none.
        reasons_zh: the same in Chinese, as far as there are texts.
    """

    sha256: str
    columns: int
    reasons: dict[str, str] = {}
    reasons_zh: dict[str, str] = {}


class Scale(msgspec.Struct, frozen=True):
    """The scorecard's scale at the time of registration."""

    base_score: float
    base_odds: float
    pdo: float
    floor: int
    ceiling: int

    def scorecard(self) -> Scorecard:
        """As the settings object that :mod:`ftl.decision` takes."""
        return Scorecard(**msgspec.structs.asdict(self))


class Bundle(msgspec.Struct, frozen=True):
    """Manifest of one model version.

    Attributes:
        name: of the registered model.
        consortium: whose model it is.
        run_id: of the run that trained it; names the parts at the nodes.
        recipe: how it was trained.
        active: the party with the label.
        parties: party to its part.
        combiner: turns sub-scores into log-odds.
        identifiers: what names an applicant, in the order in which they are joined.
        fields: the active party's columns that a request may bring along, with their types.
        scale: of the scorecard.
        notice: what is simulated; None where nothing is.
        format: of this file.
    """

    name: str
    consortium: str
    run_id: str
    recipe: str
    active: str
    parties: dict[str, PartyPart]
    combiner: Combiner
    identifiers: list[Identifier]
    fields: dict[str, ColumnType]
    scale: Scale
    notice: str | None = None
    format: int = 1

    def texts(self) -> dict[str, str]:
        """Reason code to text, over all parties."""
        return {code: text for part in self.parties.values() for code, text in part.reasons.items()}

    def texts_zh(self) -> dict[str, str]:
        """Reason code to text in Chinese, over all parties; a code without one is missing."""
        return {code: text for part in self.parties.values() for code, text in part.reasons_zh.items()}


def build_bundle(folder: Folder, result: Result) -> Bundle:
    """The manifest for a finished run.

    Args:
        folder: the consortium.
        result: what the federation said of the run.

    Raises:
        RegistryError: the run left a report and no model.
    """
    if result.combiner is None:
        raise RegistryError(f"Run {result.run_id} left a report and no model.", cure="Read its report.")
    consortium = folder.consortium
    active = consortium.parties[consortium.active]
    columns = active.tables[active.features.table].columns
    return Bundle(
        name=consortium.training.model_name,
        consortium=consortium.name,
        run_id=result.run_id,
        recipe=result.recipe,
        active=consortium.active,
        parties={
            part.party: PartyPart(part.sha256, part.columns, *_reasons(consortium.parties[part.party].features))
            for part in result.parts
        },
        combiner=result.combiner,
        identifiers=[
            Identifier(name, columns[name].type, columns[name].normalise, columns[name].country_code)
            for name in consortium.identifiers
        ],
        fields={name: column.type for name, column in columns.items() if name not in _not_asked(consortium)},
        scale=Scale(**consortium.scorecard.model_dump()),
        notice=consortium.simulation.notice if consortium.simulation else None,
    )


def encode_bundle(bundle: Bundle) -> bytes:
    """As indented JSON, for people and machines."""
    return msgspec.json.format(msgspec.json.encode(bundle), indent=1)


def decode_bundle(content: bytes, origin: str) -> Bundle:
    """Read a bundle back.

    Args:
        content: JSON.
        origin: where it came from, for the message.

    Returns:
        the bundle.

    Raises:
        RegistryError: the file is no bundle of this version of ftl.
    """
    try:
        return msgspec.json.decode(content, type=Bundle)
    except msgspec.DecodeError as exc:
        raise RegistryError(f"{origin} is no bundle: {exc}.", cure="Register the run again with this version.") from exc


def _not_asked(consortium: Consortium) -> set[str]:
    """Columns of the active party's table that no application can bring: who it is, the outcome, and book-keeping."""
    party = consortium.parties[consortium.active]
    table, label = party.tables[party.features.table], party.label
    kept = {
        label.column if label else None,
        label.weight if label else None,
        consortium.training.holdout.column,
        table.cursor,
        *table.key,
    }
    return {*consortium.identifiers, *(name for name in kept if name)}


def _reasons(features: Features) -> tuple[dict[str, str], dict[str, str]]:
    """Code to text, and to text in Chinese; of columns that share a code the first that has one counts."""
    named = list(features.named.values())
    chinese = {reason.code: reason.text_zh for reason in reversed(named) if reason.text_zh}
    return {reason.code: reason.text for reason in named}, chinese
