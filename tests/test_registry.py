"""Parts by name, and where other people's come from."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgecloud import registry
from edgecloud.errors import PluginError
from edgecloud.registry import BUILT_IN, Registry, broken_plugins, load_plugins


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing was loaded in this process, and nothing will have been."""
    monkeypatch.setattr(registry, "_LOADED", set())
    monkeypatch.setattr(registry, "_BROKEN", [])
    # Set and deleted, so that it is put back at the end.
    monkeypatch.setenv(registry.PLUGINS_VARIABLE, "")
    monkeypatch.delenv(registry.PLUGINS_VARIABLE)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Registry[object]:
    """The registry of the group ``gates`` for the time of a test; plug-ins find it as ``PARTS``."""
    made: Registry[object] = Registry("gate", group="gates")
    monkeypatch.setattr(registry, "registry_of", lambda _: made)
    monkeypatch.setattr(registry, "PARTS", made, raising=False)
    return made


def module(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(text)
    return name


def installed(folder: Path, name: str, entry: str, *, version: str = "1.2") -> None:
    """A package as an installer leaves it, with one entry point of the group ``edgecloud.gates``."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[edgecloud.gates]\n{entry}\n")


REGISTERS = """
from edgecloud.registry import PARTS
__version__ = "0.7"
def mine(block, thresholds):
    '''Ask on Tuesdays.

    And on no other day.
    '''
    return True
PARTS.add("mine", mine, options=("k",))
"""


def test_an_object_is_found_by_its_name_in_the_order_of_adding() -> None:
    made: Registry[object] = Registry("gate", group="gates")
    made.add("b", len)
    made.add("a", max)
    assert list(made) == ["b", "a"]
    assert made["a"] is max
    assert "c" not in made
    assert len(made) == 2


def test_a_name_taken_twice_names_both_origins(parts: Registry[object]) -> None:
    parts.add("entropy", load_plugins)  # a function of this package
    with pytest.raises(PluginError, match=r"'entropy': one of built in, one of module tests"):
        parts.add("entropy", test_a_name_taken_twice_names_both_origins)
    assert parts["entropy"] is load_plugins


@pytest.mark.parametrize("name", ["", "two words", "a/b", "-x", "x" * 41, "naïve", "a\n", None, 3])
def test_a_name_that_no_flag_or_row_id_could_have_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match="cannot be called"):
        Registry("gate", group="gates").add(name, len)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(PluginError, match="is a int, which is not callable"):
        Registry("gate", group="gates").add("three", 3)


def test_what_this_package_brings_is_built_in_and_has_no_hash_of_its_own() -> None:
    part = Registry("gate", group="gates").add("x", load_plugins)
    assert (part.origin, part.sha256) == (BUILT_IN, None)


def test_a_module_given_by_flag_is_loaded_once_and_known_by_its_file(
    parts: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = module(tmp_path, "flagged_part", REGISTERS)
    load_plugins([name])
    load_plugins([name])
    part = parts.part("mine")
    assert part.origin == "--plugin flagged_part"
    assert part.version == "0.7"
    assert part.summary == "Ask on Tuesdays."
    assert part.options == ("k",)
    assert part.sha256 == hashlib.sha256((tmp_path / f"{name}.py").read_bytes()).hexdigest()
    assert part.to_json() == {
        "kind": "gate",
        "name": "mine",
        "origin": part.origin,
        "version": "0.7",
        "sha256": part.sha256,
    }


def test_the_hash_of_a_package_is_of_all_its_files(
    parts: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for number, helper in enumerate(("one = 1\n", "one = 2\n")):
        folder = tmp_path / f"{number}" / f"hashed_{number}"
        folder.mkdir(parents=True)
        monkeypatch.syspath_prepend(folder.parent)
        (folder / "__init__.py").write_text("")
        (folder / "helper.py").write_text(helper)
        module(folder, "gate", REGISTERS.replace('"mine"', f'"mine-{number}"'))
        load_plugins([f"hashed_{number}.gate"])
        found.append(parts.part(f"mine-{number}").sha256)
    assert None not in found
    assert found[0] != found[1]


def test_processes_started_from_here_load_the_same(
    parts: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module(tmp_path, "carried_part", REGISTERS)
    load_plugins(["carried_part"])
    assert os.environ[registry.PLUGINS_VARIABLE] == "carried_part"


def test_the_environment_names_modules_too(
    parts: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module(tmp_path, "environment_part", REGISTERS)
    monkeypatch.setenv(registry.PLUGINS_VARIABLE, " environment_part, ")
    load_plugins()
    assert "mine" in parts


def test_a_module_of_the_working_folder_is_found(
    parts: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    module(tmp_path, "working_part", REGISTERS)
    load_plugins(["working_part"])
    assert "mine" in parts


@pytest.mark.parametrize(
    "text, why",
    [
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("def", "SyntaxError: "),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        (REGISTERS + "raise ValueError('two\\nlines')", "ValueError: two lines"),
        (REGISTERS + "PARTS.add('mine', mine)", "two parts are called gate 'mine'"),
    ],
)
def test_a_broken_module_that_somebody_asked_for_is_one_line_and_leaves_nothing(
    parts: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = module(tmp_path, f"broken_{abs(hash(text))}", text)
    with pytest.raises(PluginError) as caught:
        load_plugins([name])
    assert str(caught.value).startswith(f"--plugin {name} cannot be loaded: {why}")
    assert "\n" not in str(caught.value)
    assert not parts


def test_an_entry_point_registers_by_its_module_or_by_its_object(
    parts: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module(tmp_path, "by_module", REGISTERS)
    installed(tmp_path, "by-module", "whatever = by_module", version="3.1")
    module(tmp_path, "by_object", "def plain(block, thresholds):\n    return False\n")
    installed(tmp_path, "by-object", "plain = by_object:plain")
    module(tmp_path, "by_both", REGISTERS.replace('"mine"', '"both"'))
    installed(tmp_path, "by-both", "otherwise = by_both:mine")
    load_plugins()
    assert {name: parts.part(name).origin for name in parts} == {
        "both": "by-both 1.2",
        "plain": "by-object 1.2",
        "mine": "by-module 3.1",
    }
    assert parts.part("mine").version == "3.1"  # of the package, not of the module
    assert broken_plugins() == ()


def test_what_is_installed_and_broken_is_a_line_and_the_rest_is_loaded(
    parts: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module(tmp_path, "a_wreck", "1 / 0")
    installed(tmp_path, "a-wreck", "wreck = a_wreck")
    module(tmp_path, "z_sound", REGISTERS)
    installed(tmp_path, "z-sound", "mine = z_sound:mine")
    load_plugins()
    (broken,) = broken_plugins("gates")
    assert str(broken) == (
        "plug-in 'wreck' (gates) of a-wreck 1.2 cannot be loaded: ZeroDivisionError: division by zero"
    )
    assert broken_plugins("metrics") == ()
    assert list(parts) == ["mine"]


def test_a_replacement_lasts_as_long_as_it_is_wanted() -> None:
    made: Registry[object] = Registry("gate", group="gates")
    made.add("x", len)
    with made.replaced("x", max), made.replaced("y", min):
        assert (made["x"], made["y"]) == (max, min)
    assert dict(made) == {"x": len}


def test_what_is_lent_has_the_functions_name_or_one_beside_it_and_then_none() -> None:
    made: Registry[object] = Registry("gate", group="gates")
    made.add("mine", len)

    def mine() -> None:
        """Another of that name."""

    with made.lent(mine) as first, made.lent(lambda: None) as second, made.lent(len) as third:
        assert (first, second, third) == ("mine-2", "lambda", "mine")
        assert made[first] is mine
        with made.lent(mine) as again:
            assert again == first
    assert dict(made) == {"mine": len}
    with pytest.raises(PluginError, match="not callable"), made.lent(3):
        pass


def test_whether_the_program_itself_brings_parts_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_OF_MAIN", set())
    made: Registry[object] = Registry("gate", group="gates")

    def mine() -> None:
        """As a script defines it."""

    mine.__module__ = "__main__"
    made.add("elsewhere", len)
    assert not registry.main_brings_parts()
    with made.lent(mine):
        assert registry.main_brings_parts()
    assert not registry.main_brings_parts()


def test_importing_the_package_takes_no_time_worth_naming() -> None:
    code = (
        "import sys; before = set(sys.modules); import edgecloud;"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}"
        " - set(sys.stdlib_module_names) - {'edgecloud'}),"
        " any(name in sys.modules for name in ('importlib.metadata', 'asyncio', 'edgecloud.registry')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"
