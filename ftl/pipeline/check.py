"""`ftl check`: everything that is wrong with a consortium, at once: the file, then each source it names."""

from pathlib import Path

from ftl import consortium
from ftl.collect import Fault, survey
from ftl.consortium import Folder, Problem


def check(root: Path) -> list[Problem]:
    """Validate `consortium.yaml` and connect to every source.

    Args:
        root: folder that holds the file.

    Returns:
        all problems found, in the order of the file; none when all is sound. Where the file itself is wrong, the
        sources are not asked.
    """
    if consortium.problems(root):
        return consortium.problems(root, touch=True)
    folder = consortium.load(root)
    asked = [_located(folder, fault) for party in folder.consortium.parties for fault in survey(folder.node(party))]
    told = tuple(problem.path for problem in asked)
    # A file that is not there was noticed by its source already.
    missing = [one for one in consortium.problems(root, touch=True) if not one.path.startswith(told)]
    return sorted([*asked, *missing])


def _located(folder: Folder, fault: Fault) -> Problem:
    """The fault with its line; what it says of the place itself is not said twice."""
    said = fault.message.removeprefix(f"{fault.path}: ")
    return consortium.locate(folder.root, fault.path, said, cure=fault.cure, given=fault.given, valid=fault.valid)
