"""Parts of the system that are chosen by name, and where other people's come from.

A gate, an acceptance rule, a metric is one object in one file, registered under its name; whoever
lists them reads the registry. A *plug-in* is a part of another package: loaded by an entry point
of the groups ``edgecloud.gates``, ``edgecloud.acceptance``, … when that is installed, and by
``--plugin MODULE`` when it is not. Standard library only.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
import pkgutil
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from edgecloud.errors import EdgeCloudError, PluginError

if TYPE_CHECKING:
    from importlib import metadata

__all__ = [
    "BUILT_IN",
    "HOMES",
    "PLUGINS_VARIABLE",
    "Broken",
    "Part",
    "Registry",
    "broken_plugins",
    "guarded",
    "import_all",
    "load_plugins",
    "main_brings_parts",
    "outcome",
    "registry_of",
]

BUILT_IN = "built in"
"""The origin of what this package brings itself."""

PLUGINS_VARIABLE = "EDGECLOUD_PLUGINS"
"""Names of modules, divided by commas, that a process loads as if they were given as ``--plugin``."""

HOMES = {
    "gates": "edgecloud.decoding.gates:GATES",
    "acceptance": "edgecloud.decoding.acceptance:RULES",
    "metrics": "edgecloud.quality:METRICS",
    "families": "edgecloud.models.families:FAMILIES",
    "datasets": "edgecloud.datasets.converters:CONVERTERS",
}
"""The registry of each entry-point group ``edgecloud.GROUP``. It is imported when it is asked for."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
"""Names stand in flags, in the ids of benchmark rows and in messages to a cloud."""
_LONGEST_ERROR = 200

_LENDING = threading.Lock()

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """One registered object.

    ``source`` is the function or class that was written for it, mostly the object itself; ``origin`` is
    ``built in``, ``PACKAGE VERSION``, ``--plugin MODULE``, or ``module MODULE`` where a
    program of one's own registered it; ``options`` names settings of other parts that it looks at,
    too; ``own`` are numbers that it alone knows, with their defaults; ``sha256`` is that of the file
    it comes from, and of all Python files of the package around it; ``None`` for what is built in, which
    the version of this package tells.
    """

    name: str
    object: T
    kind: str
    origin: str
    module: str
    options: tuple[str, ...] = ()
    sha256: str | None = None
    package_version: str | None = None
    source: Any = None
    own: Mapping[str, float] = field(default_factory=dict)

    @property
    def version(self) -> str | None:
        """The version of the package, or the ``__version__`` of the module or of the package around it;
        ``None`` where there is neither."""
        if self.package_version is not None:
            return self.package_version
        for name in (self.module, self.module.partition(".")[0]):
            found = getattr(sys.modules.get(name), "__version__", None)
            if isinstance(found, str):
                return found
        return None

    @property
    def summary(self) -> str:
        """The first sentence of the source's docstring; empty where it has none."""
        text = (getattr(self.source, "__doc__", None) or "").strip().partition("\n\n")[0]
        return re.split(r"(?<=\.) (?=[A-Z])", " ".join(text.split()), maxsplit=1)[0]

    def to_json(self) -> dict[str, str | None]:
        """What a result says of a plug-in that was in use."""
        return {
            "kind": self.kind,
            "name": self.name,
            "origin": self.origin,
            "version": self.version,
            "sha256": self.sha256,
        }


@dataclass(frozen=True, slots=True)
class Broken:
    """An installed plug-in that could not be loaded: its group and name, whose it is, and why."""

    group: str
    name: str
    origin: str
    why: str

    def __str__(self) -> str:
        return f"plug-in {self.name!r} ({self.group}) of {self.origin} cannot be loaded: {self.why}"


class Registry(Mapping[str, T]):
    """Objects of one ``kind`` by name, in the order in which they were added; ``group`` is the last part
    of the name of their entry points' group."""

    def __init__(self, kind: str, *, group: str) -> None:
        self.kind = kind
        self.group = group
        self._parts: dict[str, Part[T]] = {}

    def add(
        self,
        name: str,
        item: T,
        *,
        options: Sequence[str] = (),
        own: Mapping[str, float] = MappingProxyType({}),
        source: object | None = None,
    ) -> Part[T]:
        """Register ``item`` under ``name``; ``options`` and ``own`` are those of :class:`Part`, ``source`` is the
        function or class that was written for it, where the item itself is made of that.

        Raises:
            PluginError: the name is taken or cannot be one, the source cannot be called, or a number of
                its own has no name or is not finite.
        """
        source = item if source is None else source
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(
                f"a {self.kind} cannot be called {name!r}: give a name of at most 40 letters, digits, "
                "dots, dashes and underscores"
            )
        if not callable(source):
            raise PluginError(
                f"{self.kind} {name!r} is a {type(source).__name__}, which is not callable"
            )
        part = _part(name, item, kind=self.kind, source=source, options=options, own=own)
        taken = self._parts.get(name)
        if taken is not None:
            raise PluginError(
                f"two parts are called {self.kind} {name!r}: one of {taken.origin}, one of "
                f"{part.origin}; give the second another name"
            )
        self._parts[name] = part
        if part.module == "__main__":
            _OF_MAIN.add(name)
        if _LOADING:
            _LOADING[-1].added.append((self._parts, name))
        return part

    def named(
        self,
        name: str,
        *,
        options: Sequence[str] = (),
        own: Mapping[str, float] = MappingProxyType({}),
    ) -> Callable[[T], T]:
        """A decorator that registers what stands below it, which stays as it is. Its call raises as
        :meth:`add` does."""

        def register(item: T) -> T:
            self.add(name, item, options=options, own=own)
            return item

        return register

    def part(self, name: str) -> Part[T]:
        """What is known of an object.

        Raises:
            KeyError: none has that name.
        """
        return self._parts[name]

    def parts(self) -> tuple[Part[T], ...]:
        """Everything registered, in order."""
        return tuple(self._parts.values())

    def elsewhere(self) -> str:
        """Where a part may be that is not registered, as the end of a message: in a plug-in that is broken, or
        in one that is not known here."""
        broken = broken_plugins(self.group)
        if broken:
            return "; " + "; ".join(map(str, broken))
        return f"; for a {self.kind} of your own give --plugin MODULE, or install its package"

    @contextmanager
    def replaced(
        self,
        name: str,
        item: T,
        *,
        options: Sequence[str] = (),
        own: Mapping[str, float] = MappingProxyType({}),
    ) -> Iterator[None]:
        """For tests: another object under ``name``, new or not, for a while."""
        before = dict(self._parts)
        self._parts[name] = _part(name, item, kind=self.kind, source=item, options=options, own=own)
        try:
            yield
        finally:
            self._parts.clear()
            self._parts.update(before)

    @contextmanager
    def lent(self, item: T) -> Iterator[str]:
        """Register ``item`` for a while. Yields its name: that of the function, with a number behind it where another
        part has that; one that is registered already goes by its own. Several threads may lend at once.

        Raises:
            PluginError: it cannot be called.
        """
        for part in self.parts():
            if item is part.object or item is part.source:
                yield part.name
                return
        spelled = re.sub(r"[^A-Za-z0-9_.-]", "", getattr(item, "__name__", type(item).__name__))
        spelled = spelled.strip("_.-")[:30] or "own"
        with _LENDING:
            names = (f"{spelled}-{number}" if number > 1 else spelled for number in count(1))
            name = next(each for each in names if each not in self)
            self.add(name, item)
        try:
            yield name
        finally:
            self._parts.pop(name, None)
            _OF_MAIN.discard(name)

    def __getitem__(self, name: str) -> T:
        return self._parts[name].object

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._parts))

    def __len__(self) -> int:
        return len(self._parts)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"Registry({self.kind}: {', '.join(self)})"


@dataclass(frozen=True, slots=True)
class _Load:
    """A plug-in that is being loaded, and what it has registered so far."""

    origin: str
    version: str | None
    added: list[tuple[dict[str, Any], str]]


_LOADING: list[_Load] = []
_LOADED: set[str] = set()
"""Modules given as ``--plugin`` that are loaded; ``""`` when the entry points are."""
_BROKEN: list[Broken] = []
_OF_MAIN: set[str] = set()
"""Names of parts that the program itself has registered."""


def registry_of(group: str) -> Registry[Any]:
    """The registry of a group of :data:`HOMES`.

    Raises:
        KeyError: there is no such group.
    """
    module, _, name = HOMES[group].partition(":")
    return cast("Registry[Any]", getattr(importlib.import_module(module), name))


def import_all(package: str, path: Iterable[str]) -> None:
    """Import every module of a package's folder, which registers what they hold: a new part is one file."""
    for found in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{found.name}")


def load_plugins(modules: Sequence[str] = ()) -> None:
    """Load what is installed, once a process, and ``modules``, with those that the environment names.

    ``modules`` are put into the environment, so that processes started from here load them too. What
    is installed and broken is kept for :func:`broken_plugins`; the run goes on without it.

    Raises:
        PluginError: one of ``modules``, which somebody asked for, cannot be loaded.
    """
    named = [*_named(os.environ.get(PLUGINS_VARIABLE, "")), *_named(",".join(modules))]
    if "" not in _LOADED:
        _LOADED.add("")
        from importlib import metadata  # reads mails and archives: slow to import

        installed = metadata.entry_points()  # looks at every package there is
        for group in HOMES:
            for entry in sorted(
                installed.select(group=f"edgecloud.{group}"), key=lambda found: found.name
            ):
                _load_entry(group, entry)
    for module in dict.fromkeys(named):
        if module not in _LOADED:
            why = _load(f"--plugin {module}", None, partial(_import, module))
            if why is not None:
                raise PluginError(f"--plugin {module} cannot be loaded: {why}")
            _LOADED.add(module)
    if modules:
        os.environ[PLUGINS_VARIABLE] = ",".join(dict.fromkeys(named))


def main_brings_parts() -> bool:
    """True when the program itself, not a module of it, has registered a part."""
    return bool(_OF_MAIN)


def broken_plugins(group: str | None = None) -> tuple[Broken, ...]:
    """What is installed and could not be loaded: of one group, or of all."""
    return tuple(found for found in _BROKEN if group in (None, found.group))


def guarded(part: Part[Any], function: Callable[P, T]) -> Callable[P, T]:
    """A function of ``part`` that raises a PluginError in place of whatever nobody foresaw, where the part is
    of another package. What is built in stays as it is, so that its faults keep their traceback."""
    if part.origin == BUILT_IN:
        return function

    def guard(*given: P.args, **named: P.kwargs) -> T:
        found, error = _tried(lambda: function(*given, **named))
        if error is None:
            return cast("T", found)
        if isinstance(error, EdgeCloudError):
            raise error
        raise PluginError(
            f"{part.kind} {part.name!r} of {part.origin} failed: {_told(error)}"
        ) from error

    return guard


def outcome(work: Callable[[], T]) -> tuple[T | None, str | None]:
    """The result of other people's code, or in one line why it failed."""
    found, error = _tried(work)
    return found, None if error is None else _told(error)


def _finite(number: object) -> bool:
    return isinstance(number, int | float) and math.isfinite(number)


def _named(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _import(module: str) -> ModuleType:
    """Import a module; one of the working folder as well, which a command has not on its path."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    return importlib.import_module(module)


def _load_entry(group: str, entry: metadata.EntryPoint) -> None:
    package = entry.dist
    origin = "an unknown package" if package is None else f"{package.name} {package.version}"

    def load() -> None:
        found = entry.load()
        # A module has registered what it brings; an object may have been registered by its own.
        if isinstance(found, ModuleType):
            return
        registry = registry_of(group)
        if all(found is not part.object and found is not part.source for part in registry.parts()):
            registry.add(entry.name, found)

    why = _load(origin, None if package is None else package.version, load)
    if why is not None:
        _BROKEN.append(Broken(group, entry.name, origin, why))


def _load(origin: str, version: str | None, load: Callable[[], object]) -> str | None:
    """Run other people's code; ``None``, or why it failed in one line, and nothing of it stays."""
    loading = _Load(origin, version, [])
    _LOADING.append(loading)
    try:
        _, why = outcome(load)
    finally:
        _LOADING.pop()
    if why is not None:
        for parts, name in loading.added:
            parts.pop(name, None)
    return why


def _tried(work: Callable[[], T]) -> tuple[T | None, Exception | SystemExit | None]:
    """The result of other people's code, or what it raised: whatever that is, it is that plug-in's failure,
    and the others go on."""
    try:
        return work(), None
    except (Exception, SystemExit) as error:  # noqa: BLE001
        return None, error


def _told(error: BaseException) -> str:
    """An error in one line."""
    words = " ".join(str(error).split())[:_LONGEST_ERROR]
    return words if isinstance(error, PluginError) else f"{type(error).__name__}: {words}"


def _part(
    name: str,
    item: T,
    *,
    kind: str,
    source: object,
    options: Sequence[str],
    own: Mapping[str, float],
) -> Part[T]:
    for key, number in own.items():
        if not key.isidentifier() or not _finite(number):
            raise PluginError(
                f"{kind} {name!r}: its own {key!r} is {number!r}; give a name of letters, digits and "
                "underscores, and a finite number"
            )
    module = getattr(source, "__module__", None) or "__main__"
    part = Part(name, item, kind, BUILT_IN, module, tuple(options), source=source, own=dict(own))
    if module.partition(".")[0] == "edgecloud":
        return part
    loading = _LOADING[-1] if _LOADING else _Load(f"module {module}", None, [])
    return replace(
        part, origin=loading.origin, sha256=_sha256(module), package_version=loading.version
    )


def _sha256(module: str) -> str | None:
    """Of the module's file, or of all Python files of the package that it lies in, with their names."""
    file = getattr(sys.modules.get(module), "__file__", None)
    package = getattr(sys.modules.get(module.partition(".")[0]), "__file__", None)
    if file is None:
        return None
    found = hashlib.sha256()
    try:
        if package is None or Path(package).name != "__init__.py":
            found.update(Path(file).read_bytes())
        else:
            folder = Path(package).parent
            for path in sorted(folder.rglob("*.py")):
                content = path.read_bytes()
                found.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
                found.update(content)
    except OSError:
        return None
    return found.hexdigest()
