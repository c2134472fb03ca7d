"""A user's own Python file, run as it stands now."""

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType


class _AsItStands(SourceFileLoader):
    """Neither reads nor leaves compiled code: that of a file changed twice within a second may be the older one."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def run_file(name: str, path: Path) -> ModuleType:
    """Run a Python file as a module, which `sys.modules` then holds.

    Args:
        name: of the module.
        path: of the file.
    """
    spec = importlib.util.spec_from_file_location(name, path, loader=_AsItStands(name, str(path)))
    assert spec is not None  # noqa: S101 - there is a loader
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
