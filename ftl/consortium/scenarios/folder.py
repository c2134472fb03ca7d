"""Writes a new consortium folder: all of it, or nothing."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

import ftl
from ftl.consortium.problem import FILE, nearest
from ftl.consortium.schema import SCHEMA_FILE, schema
from ftl.consortium.validation import load
from ftl.errors import ConsortiumError


@dataclass(frozen=True)
class Setting:
    """A whole number that ``--set`` may give a scenario.

    Attributes:
        default, low, high: its default and its bounds, both allowed.
        meaning: for people.
    """

    default: int
    low: int
    high: int
    meaning: str


SCENARIOS: Mapping[str, Mapping[str, Setting]] = {
    "taiwan": {"shared": Setting(1_000, 0, 24_000, "how many of the 24,000 training customers both parties know")},
    "german": {
        "parties": Setting(2, 2, 3, "how many parties the table is cut into"),
        "shared": Setting(800, 0, 1_000, "how many of the 1,000 customers every party knows"),
    },
    "sme": {
        "day": Setting(20200101, 20170101, 20200331, "the day at which features stand, as in 20200101"),
        "later": Setting(0, 0, 1_000, "of how many days before that day invoices are yet to come"),
    },
}
"""Scenario to its settings."""

OF_OWN_FILES = ("sme",)
"""Scenarios that are made from files of the user's, wholly and without a draw."""

RECORD = Path("data/scenario.json")
"""How the data of a scenario's folder were drawn."""


def new(
    directory: Path | str,
    scenario: str | None = None,
    settings: Mapping[str, str] | None = None,
    seed: int = 0,
    cache: Path | None = None,
    data: Path | None = None,
) -> list[Path]:
    """Write a new consortium folder.

    Args:
        directory: made when absent; must not hold anything that would be overwritten.
        scenario: one of :data:`SCENARIOS`; without, a commented file to fill in.
        settings: the scenario's settings, as given by ``--set``.
        seed: of the scenario's draws.
        cache: where downloads are kept; by default ``$XDG_CACHE_HOME/ftl`` or ``~/.cache/ftl``.
        data: folder of the user's own files, for a scenario that is made from such.

    Returns:
        The files written.

    Raises:
        ConsortiumError: the folder is taken, a setting is unknown or out of bounds, or data cannot be had.
    """
    root = Path(directory).resolve()
    numbers = _numbers(scenario, dict(settings or {}))
    _require_data(scenario, data)
    if (root / FILE).exists():
        raise ConsortiumError(f"{root} already holds a {FILE}.", cure="Name another folder, or remove that one.")
    root.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
    try:
        _write(staged, scenario, numbers, seed, cache or _cache(os.environ), data)
        return _publish(staged, root)
    finally:
        shutil.rmtree(staged)


def _numbers(scenario: str | None, given: Mapping[str, str]) -> dict[str, int]:
    """The scenario's settings, each checked, or its default."""
    if scenario is not None and scenario not in SCENARIOS:
        near = nearest(scenario, SCENARIOS)
        cure = f"Did you mean {near!r}?" if near else f"There are {', '.join(SCENARIOS)}."
        raise ConsortiumError(f"There is no scenario {scenario!r}.", cure=cure)
    valid = SCENARIOS[scenario] if scenario else {}
    for key in given:
        if key not in valid:
            what = f"Scenario {scenario!r}" if scenario else "A consortium without a scenario"
            cure = f"It has {', '.join(valid)}." if valid else "Leave `--set` away, or name a scenario."
            raise ConsortiumError(f"{what} has no setting {key!r}.", cure=cure)
    return {key: _number(key, setting, given.get(key)) for key, setting in valid.items()}


def _require_data(scenario: str | None, data: Path | None) -> None:
    if scenario in OF_OWN_FILES and data is None:
        cure = f"Name their folder with `--data`; docs/{scenario}.md says which files."
        raise ConsortiumError(f"Scenario {scenario!r} is made from files that you have.", cure=cure)
    if scenario not in OF_OWN_FILES and data is not None:
        what = f"Scenario {scenario!r} has data of its own" if scenario else "A consortium without a scenario has none"
        raise ConsortiumError(f"{what}.", cure="Leave `--data` away.")


def _number(key: str, setting: Setting, text: str | None) -> int:
    if text is None:
        return setting.default
    cure = f"Give a whole number from {setting.low} to {setting.high}: {setting.meaning}."
    try:
        number = int(text)
    except ValueError as error:
        raise ConsortiumError(f"{key}={text} is not a whole number.", cure=cure) from error
    if not setting.low <= number <= setting.high:
        raise ConsortiumError(f"{key}={text} is out of bounds.", cure=cure)
    return number


def redraw(directory: Path | str, seed: int, cache: Path | None = None) -> bool:
    """Draw a scenario's data anew with another seed, where they lie; the lakes filled from the old ones are emptied.

    Does nothing where the data were drawn with that seed or without a draw, and in a folder without a scenario. What
    the user changed in `consortium.yaml` stays, and so do models.

    Args:
        directory: the consortium's folder.
        seed: of the new draw.
        cache: as in :func:`new`.

    Returns:
        Whether there are new data.

    Raises:
        ConsortiumError: the file is wrong, or data cannot be had.
    """
    root = Path(directory).resolve()
    if not (root / RECORD).is_file():
        return False
    record = json.loads((root / RECORD).read_text(encoding="utf-8"))
    if record["seed"] == seed or record["scenario"] in OF_OWN_FILES:
        return False
    folder = load(root)
    staged = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
    try:
        _write_data(staged, record["scenario"], record["settings"], seed, cache or _cache(os.environ))
        for party in folder.consortium.parties:
            shutil.rmtree(folder.node(party).home / "lake", ignore_errors=True)
        _move(staged, root, last=RECORD)
    finally:
        shutil.rmtree(staged)
    return True


def _cache(environ: Mapping[str, str]) -> Path:
    """Where the XDG base directory specification wants it."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ftl"


def _write(
    folder: Path, scenario: str | None, numbers: dict[str, int], seed: int, cache: Path, data: Path | None
) -> None:
    if scenario is None:
        _fill(folder, "blank.yaml")
    else:
        notice = _write_data(folder, scenario, numbers, seed, cache, data)
        template = f"german_{numbers['parties']}.yaml" if scenario == "german" else f"{scenario}.yaml"
        _fill(folder, template, **numbers, seed=seed, notice=json.dumps(notice))
        _copy_suites(folder, f"{scenario}_*.py")
    (folder / SCHEMA_FILE).write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")


def _write_data(
    folder: Path, scenario: str, numbers: dict[str, int], seed: int, cache: Path, data: Path | None = None
) -> str:
    """Write the scenario's data with a record of how they were drawn; returns the notice of what is simulated.

    The scenarios need pandas and are imported only here.
    """
    if scenario == "taiwan":
        from ftl.consortium.scenarios import taiwan

        taiwan.write(folder, numbers["shared"], seed, cache)
        notice = taiwan.NOTICE
    elif data is not None:
        from ftl.consortium.scenarios import sme

        sme.write(folder, data, numbers["day"], numbers["later"])
        notice = sme.NOTICE
    else:
        from ftl.consortium.scenarios import german

        german.write(folder, numbers["parties"], numbers["shared"], seed, cache)
        notice = german.NOTICE
    record = {"scenario": scenario, "settings": numbers, "seed": seed, "notice": notice}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return notice


def _fill(folder: Path, template: str, **values: object) -> None:
    text = (files("ftl.consortium.scenarios") / template).read_text(encoding="utf-8")
    (folder / FILE).write_text(Template(text).substitute(values), encoding="utf-8")


def _copy_suites(folder: Path, pattern: str) -> None:
    """From the installed package, or from the checkout that it runs from."""
    package = Path(ftl.__file__).parent
    shipped = package / "_shipped" / "expectations"
    source = shipped if shipped.is_dir() else package.parent / "expectations"
    for suite in source.glob(pattern):
        (folder / "expectations").mkdir(exist_ok=True)
        shutil.copyfile(suite, folder / "expectations" / suite.name)


def _publish(staged: Path, root: Path) -> list[Path]:
    """Move everything in place, the consortium file last, so that a folder that has one is complete."""
    for path in staged.rglob("*"):
        name = path.relative_to(staged)
        if path.is_file() and (root / name).exists():
            raise ConsortiumError(f"{root} already holds {name}.", cure="Name an empty folder.")
    return _move(staged, root, last=Path(FILE))


def _move(staged: Path, root: Path, last: Path) -> list[Path]:
    names = sorted(path.relative_to(staged) for path in staged.rglob("*") if path.is_file())
    names.sort(key=lambda name: name == last)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).replace(root / name)
    return [root / name for name in names]
