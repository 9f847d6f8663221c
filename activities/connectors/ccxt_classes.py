"""ccxt's classes of the exchanges that are asked for, and of no others.

Importing any part of ccxt imports its hundred exchanges: 3.7 s of CPU at each start of a worker,
where one exchange needs 0.7 s. Here the three packages are loaded without the lines
`from ccxt.pro.NAME import NAME`; such a name is imported when it is first used. A release of ccxt
that writes those lines in another way loads whole, as it does by itself: slower, and no less right.
"""

import ast
import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

_PACKAGES = frozenset({"ccxt", "ccxt.async_support", "ccxt.pro"})


def exchange_class(name: str) -> Any:
    """The class `ccxt.pro.NAME`. Raises `AttributeError` where ccxt has no such exchange."""
    if "ccxt" not in sys.modules and not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    return getattr(importlib.import_module("ccxt.pro"), name)


class _Finder(MetaPathFinder):
    """Gives ccxt's packages, not its modules, to the loader below."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _PACKAGES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Runs a package's own source without the imports of its exchanges."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Package(spec.name)

    def get_code(self, fullname: str) -> CodeType:
        tree = ast.parse(self.get_data(self.path), self.path)
        tree.body = [line for line in tree.body if not _imports_an_exchange(line, fullname)]
        return compile(tree, self.path, "exec")


class _Package(ModuleType):
    """A package of ccxt whose exchanges' names stand for their classes, as ccxt has it."""

    def __getattr__(self, name: str) -> Any:
        module = f"{self.__name__}.{name}"
        if name.startswith("_") or PathFinder.find_spec(module, self.__path__) is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        importlib.import_module(module)
        return self.__dict__[name]

    def __setattr__(self, name: str, value: object) -> None:
        """The import system binds the submodule here; the package's users expect the class."""
        inner = getattr(value, name, None) if isinstance(value, ModuleType) else None
        super().__setattr__(name, inner if isinstance(inner, type) else value)


def _imports_an_exchange(line: ast.stmt, package: str) -> bool:
    return (
        isinstance(line, ast.ImportFrom)
        and len(line.names) == 1
        and line.module == f"{package}.{line.names[0].name}"
    )
