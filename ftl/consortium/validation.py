"""Reads `consortium.yaml`, and says everything that is wrong with it at once."""

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ftl.consortium.checks import contradictions
from ftl.consortium.document import Document, read
from ftl.consortium.expressions import faulty_expressions
from ftl.consortium.files import missing_files
from ftl.consortium.folder import Folder
from ftl.consortium.model import Consortium
from ftl.consortium.problem import FILE, Finding, Path, Problem, nearest
from ftl.consortium.schema import names_at
from ftl.consortium.values import unknown
from ftl.errors import ConsortiumError

_NAME = "lower-case letters, digits and underscores, a letter first, at most 63"
_KINDS = (
    "sqlite",
    "csv",
    "parquet",
    "json_lines",
    "excel",
    "postgresql",
    "mariadb",
    "mysql",
    "kafka",
    "dlt",
    "windows",
)
_ALTERNATIVES = {"str", "int", "float", "bool", "constrained-int"}


def load(directory: FilePath | str) -> Folder:
    """Load the consortium of a folder.

    Args:
        directory: the folder that holds `consortium.yaml`.

    Raises:
        ConsortiumError: the file is absent or wrong; lists every problem, one a line.
    """
    root = FilePath(directory).resolve()
    document = read(root)
    found = document if isinstance(document, list) else _problems(document)
    if found or isinstance(document, list):
        raise ConsortiumError(_listing(root, found), cure=f"Correct it, then try `ftl check {directory}`.")
    return Folder(root, Consortium.model_validate(document.values))


def problems(directory: FilePath | str, *, touch: bool = False) -> list[Problem]:
    """Everything that is wrong with the `consortium.yaml` of a folder, in the order of its lines.

    Args:
        directory: the folder.
        touch: also look whether the files that it names exist on this machine.
    """
    root = FilePath(directory).resolve()
    document = read(root)
    if isinstance(document, list):
        return document
    found = _problems(document)
    if touch:
        found += [document.problem(finding) for finding in missing_files(root, document.values)]
    return sorted(set(found))


def locate(
    directory: FilePath | str, path: str, message: str, *, cure: str = "", given: str = "", valid: tuple[str, ...] = ()
) -> Problem:
    """A problem that someone else found with a setting, with its line.

    Args:
        directory: the consortium's folder.
        path: the setting, for example ``parties.bank.sources.core``.
        message: what is wrong with it.
        cure: what to do about it.
        given: the name that is not valid, if that is the problem.
        valid: the names that are.
    """
    said = f"{message} {cure}".rstrip()
    expected = "one of " + ", ".join(valid) if valid else ""
    document = read(FilePath(directory).resolve())
    if isinstance(document, list):
        return Problem(1, 1, path, said, expected, nearest(given, valid))
    return document.problem(Finding(tuple(path.split(".")), said, expected, nearest(given, valid)))


def _problems(document: Document) -> list[Problem]:
    findings = [*document.findings, *_shape(document.values)]
    told = {finding.path for finding in findings}
    findings += [finding for finding in contradictions(document.values) if finding.path not in told]
    told = {finding.path for finding in findings}
    findings += [finding for finding in faulty_expressions(document.values) if finding.path not in told]
    return sorted({document.problem(finding) for finding in findings})


def _listing(root: FilePath, found: list[Problem]) -> str:
    number = "1 problem" if len(found) == 1 else f"{len(found)} problems"
    return "\n".join([f"{root / FILE} has {number}:", *(f"  {problem}" for problem in found), ""])


def _shape(values: Any) -> Iterator[Finding]:
    """Problems with single settings: missing, unknown, of the wrong kind or out of bounds."""
    try:
        Consortium.model_validate(values)
    except ValidationError as error:
        told: set[Path] = set()
        for detail in error.errors(include_url=False):
            finding = _finding(detail, values)
            if finding.path not in told:
                yield finding
            told.add(finding.path)


def _finding(detail: ErrorDetails, values: Any) -> Finding:
    path, given = _written(detail["loc"], values), detail["input"]
    context: Mapping[str, Any] = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            finding = Finding(path, "is missing", at_key=True)
        case "extra_forbidden":
            finding = unknown(path, str(path[-1]), names_at(path[:-1], values), "is not a setting here", at_key=True)
        case "literal_error":
            finding = _not_among(path, given, context["expected"])
        case "union_tag_invalid":
            finding = _not_among((*path, "kind"), context["tag"], context["expected_tags"])
        case "union_tag_not_found":
            finding = Finding((*path, "kind"), "is missing", "one of " + ", ".join(_KINDS))
        case "string_pattern_mismatch":
            finding = _pattern(path, given, context["pattern"], at_key=detail["loc"][-1] == "[key]")
        case _ if detail["loc"][-1] in _ALTERNATIVES and path != detail["loc"]:
            finding = Finding(path, f"{_shown(given)} cannot stand here", "a text, a number, true, false or null")
        case _:
            finding = Finding(path, f"{_shown(given)} cannot stand here", _plainly(detail["msg"]))
    return finding


def _written(location: tuple[int | str, ...], values: Any) -> Path:
    """The location as written in the file: without pydantic's marks of alternatives and keys."""
    path: list[int | str] = []
    for place, step in enumerate(location):
        if step == "[key]" or (isinstance(values, dict) and step in _KINDS and step not in values):
            continue
        inside = _inside(values, step)
        if inside is not None:
            values = inside[0]
        elif place < len(location) - 1 or step in _ALTERNATIVES or str(step).startswith("literal["):
            continue
        path.append(step)
    return tuple(path)


def _inside(values: Any, step: int | str) -> tuple[Any] | None:
    """What stands at a key or position, if there is such a place."""
    if isinstance(values, dict) and step in values:
        return (values[str(step)],)
    if isinstance(values, list) and isinstance(step, int) and step < len(values):
        return (values[step],)
    return None


def _not_among(path: Path, given: Any, listed: str) -> Finding:
    valid = [choice.strip("'") for choice in listed.replace(" or ", ", ").split(", ")]
    expected = "one of " + ", ".join(valid) if len(valid) > 1 else valid[0]
    return Finding(path, f"{_shown(given)} cannot stand here", expected, nearest(given, valid))


def _pattern(path: Path, given: Any, pattern: str, *, at_key: bool) -> Finding:
    expected = _NAME if pattern.startswith("^[a-z]") else "1 to 8 capital letters and digits, a letter first"
    return Finding(path, f"{_shown(given)} cannot be a name here", expected, at_key=at_key)


def _shown(given: Any) -> str:
    if isinstance(given, dict):
        return "a mapping"
    if isinstance(given, list):
        return "a list" if given else "an empty list"
    return "nothing" if given is None else repr(given)


def _plainly(message: str) -> str:
    """Pydantic's sentence in the words of the file."""
    if "dictionary" in message:
        return "a mapping"
    if "tuple" in message.lower() and "at least" not in message:
        return "a list"
    if "path" in message:
        return "a path, written as text"
    if "at least 1 item" in message:
        return "at least one entry"
    return message.replace("Input should be ", "").replace("String should", "a text that should")
