"""`consortium.yaml` as plain values that remember their lines.

The file is composed to YAML nodes and turned into values here rather than by a YAML constructor, for three reasons:
all duplicate keys can be listed at once, keys stay as they are written (``recode: {1: male}`` has the key ``"1"``),
and dates stay text.
"""

from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from ftl.consortium.problem import FILE, Finding, Path, Problem, dotted

_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float")}


@dataclass(frozen=True)
class Document:
    """A file that could be read as YAML.

    Attributes:
        values: dicts with text keys, lists and scalars.
        findings: duplicate keys and other things YAML allows and we do not.
    """

    root: Node
    values: Any
    findings: tuple[Finding, ...]

    def problem(self, finding: Finding) -> Problem:
        """The finding with line and column of its path, or of the nearest place above it."""
        mark = self.root.start_mark
        node: Node | None = self.root
        for depth, step in enumerate(finding.path):
            key, node = _child(node, step)
            if key is None or node is None:
                break
            last = depth == len(finding.path) - 1
            mark = key.start_mark if not last or finding.at_key or not _inline(node) else node.start_mark
        line, column = mark.line + 1, mark.column + 1
        return Problem(line, column, dotted(finding.path), finding.message, finding.expected, finding.suggestion)


def read(folder: FilePath) -> Document | list[Problem]:
    """Read the file of a folder.

    Returns:
        The document, or why it is none: no file, not UTF-8, not YAML, not a mapping.
    """
    path = folder / FILE
    if not path.is_file():
        return [Problem(1, 1, "", f"there is no such file in {folder}", "a file as written by `ftl new DIR`")]
    text = _decode(path.read_bytes())
    return text if isinstance(text, list) else parse(text)


def parse(text: str) -> Document | list[Problem]:
    """The same for a text."""
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        return _tabs(text) or [_syntax(error)]
    except YAMLError as error:
        return [Problem(1, 1, "", f"is not YAML: {error}")]
    if not isinstance(root, MappingNode):
        said = "the file is empty" if root is None else "the file is not a mapping"
        return [Problem(1, 1, "", said, "`version: 1` and so on")]
    builder = _Builder(yaml)
    return Document(root, builder.build(root, ()), tuple(builder.findings))


def _decode(data: bytes) -> str | list[Problem]:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        return [Problem(line, column, "", f"byte 0x{data[error.start]:02x} is not UTF-8", "a file saved as UTF-8")]


def _tabs(text: str) -> list[Problem]:
    """YAML forbids tabs in indentation; its own message for it ("cannot start any token") helps nobody."""
    lines = enumerate(text.splitlines(), start=1)
    tabbed = [(n, line) for n, line in lines if "\t" in line[: len(line) - len(line.lstrip())]]
    return [Problem(n, line.index("\t") + 1, "", "the line is indented with a tab", "spaces") for n, line in tabbed]


def _syntax(error: MarkedYAMLError) -> Problem:
    endless = "end of stream" in str(error.problem)  # then what was opened and never closed is the place to look at
    mark = (error.context_mark if endless else None) or error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    said = ", ".join(part for part in (error.context, error.problem) if part)
    return Problem(line, column, "", f"is not YAML: {said}")


class _Builder:
    """Turns nodes into values and notes what it does not like on the way."""

    def __init__(self, yaml: YAML) -> None:
        self.yaml = yaml
        self.findings: list[Finding] = []
        self._open: list[int] = []

    def build(self, node: Node, path: Path) -> Any:
        if id(node) in self._open:
            self.findings.append(Finding(path, "refers to a place that contains it"))
            return None
        self._open.append(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, path)
            if isinstance(node, SequenceNode):
                return [self.build(item, (*path, place)) for place, item in enumerate(node.value)]
            return self._scalar(node)
        finally:
            self._open.pop()

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self.findings.append(Finding(path, "has a key that is not a plain text"))
                continue
            name = str(key.value)
            if name in values:
                said = f"the key is written twice, first in line {first[name]}"
                self.findings.append(Finding((*path, name), said, "each key once", at_key=True))
            values[name] = self.build(value, (*path, name))
            first.setdefault(name, key.start_mark.line + 1)
        return values

    def _scalar(self, node: Node) -> Any:
        if node.tag in _PLAIN:
            return self.yaml.constructor.construct_object(node, deep=True)
        return str(node.value)


def _child(node: Node | None, step: str | int) -> tuple[Node | None, Node | None]:
    """Key node and value node; of keys written twice the last, as it is the one that counts."""
    if isinstance(node, MappingNode):
        found = [(key, value) for key, value in node.value if key.value == str(step)]
        return found[-1] if found else (None, None)
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None, None


def _inline(node: Node) -> bool:
    return isinstance(node, ScalarNode) or (isinstance(node, CollectionNode) and bool(node.flow_style))
