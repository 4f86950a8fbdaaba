"""How pytest runs the experiments: which files, under which settings, with which ids."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pytest_benchmark.logger import PytestBenchmarkWarning

from bench.plugin_options import settle_comparison
from bench.preflight import check_benchmark_files, check_plugins, check_run, settings
from bench.progress import Progress
from edgecloud.ending import TERMINATED
from edgecloud.experiments.readiness import named
from edgecloud.registry import broken_plugins
from edgecloud.settings.naming import row
from edgecloud.stages import Lines, listening

if TYPE_CHECKING:
    from bench.recorder import Recorder
    from edgecloud.edge.messages import Mode
    from edgecloud.settings.config import Config

_FOLDER = Path(__file__).parent
_SUITES: dict[str, Mode] = {
    "test_edge.py": "edge",
    "test_cloud.py": "cloud",
    "test_spec.py": "spec",
}

CONFIG = pytest.StashKey["Config"]()
MODES = pytest.StashKey[tuple["Mode", ...]]()
WRITTEN = pytest.StashKey[list[Path]]()
WARNED = pytest.StashKey[list[str]]()
UNSCORED = pytest.StashKey[list[str]]()
TOGETHER = pytest.StashKey[dict[str, Any]]()
BEGUN = pytest.StashKey[list[Path]]()
TABLES = pytest.StashKey[list[str]]()
"""What heavier files have to show when all is done."""


def pytest_configure(config: pytest.Config) -> None:
    """Check plugins and settings before anything is collected."""
    check_plugins(config)
    config.stash[CONFIG] = settings(config)
    config.stash[WRITTEN] = []
    config.stash[WARNED] = list(map(str, broken_plugins()))
    config.stash[UNSCORED] = []
    config.stash[BEGUN] = []
    config.stash[TOGETHER] = {}
    config.stash[TABLES] = []
    # The plugin says what it noticed by warnings; where warnings are errors, none of them is one.
    warnings.filterwarnings("default", category=PytestBenchmarkWarning)
    # A run that ends before its first sample has said why; it saves nothing, of course.
    warnings.filterwarnings("ignore", message="Not saving anything")
    # So that processes end, and the last line is said, as after Ctrl-C. Not under a plugin's own thread.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _ended)


def _ended(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pytest.exit("ended by SIGTERM", returncode=TERMINATED)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """``pytest bench`` collects the three experiments; heavier files run when they are named."""
    if collection_path.parent != _FOLDER or not collection_path.name.startswith("test_"):
        return None
    if collection_path.name in _SUITES:
        return None
    named = {(config.invocation_params.dir / arg.split("::")[0]).resolve() for arg in config.args}
    return None if collection_path.resolve() in named else True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the test its slice: these ids are the keys of comparison, and frozen."""
    if "arm" not in metafunc.fixturenames:
        return
    config = metafunc.config.stash[CONFIG]
    name = row(
        _SUITES.get(Path(metafunc.module.__file__).name, ""),
        language=config.data.language,
        prompt_type=config.data.prompt_type,
        acceptance=config.acceptance.rule,
    )
    metafunc.parametrize("arm", [name], ids=[name])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Find out which experiments will run, and check data, models and output for them."""
    found = dict.fromkeys(_SUITES.get(item.path.name) for item in items if _is_suite(item))
    modes = tuple(mode for mode in found if mode is not None)
    config.stash[MODES] = modes
    config.stash[WARNED] += settle_comparison(config)
    if modes and not config.option.collectonly:
        holding = ExitStack()
        config.add_cleanup(
            holding.close
        )  # until every result is written, or the session ends otherwise
        # What it has to say while weights are looked at shall be seen.
        with _uncaptured(config), listening(Lines(sys.stderr)):
            check_run(_named(config), holding=holding)
        check_benchmark_files(config)


def _uncaptured(config: pytest.Config) -> AbstractContextManager[Any]:
    """A way past pytest's capture."""
    capture = config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled() if capture is not None else nullcontext()


def _is_suite(item: pytest.Item) -> bool:
    return item.path.parent == _FOLDER and "recorder" in getattr(item, "fixturenames", ())


def _named(config: pytest.Config) -> dict[Any, Config]:
    """The settings of each experiment that will run, with the name of its result."""
    return named(config.stash[CONFIG], config.stash[MODES])


@pytest.fixture
def recorder(request: pytest.FixtureRequest, benchmark: Any, arm: str) -> Recorder:
    """The one recorder, set up for the experiment of the test's file."""
    from bench.recorder import Recorder

    pytest_config = request.config
    mode = _SUITES[request.node.path.name]
    reporter = pytest_config.pluginmanager.getplugin("terminalreporter")
    runs = _named(pytest_config)
    config = runs[mode]
    label = " + ".join(runs) if config.run.interleave else mode
    return Recorder(
        config=config,
        pytest_config=pytest_config,
        benchmark=benchmark,
        progress=Progress(
            reporter,
            f"{label} {arm}",
            verbose=pytest_config.option.verbose > 0,
            uncaptured=lambda: _uncaptured(pytest_config),
        ),
        written=pytest_config.stash[WRITTEN],
        mode=mode,
        begun=pytest_config.stash[BEGUN],
        warned=pytest_config.stash[WARNED],
        unscored=pytest_config.stash[UNSCORED],
        arms=list(runs.items()),
        together=pytest_config.stash[TOGETHER],
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for path in config.stash[WRITTEN]:
        terminalreporter.write_line(f"result: {path}")
    for table in config.stash[TABLES]:
        terminalreporter.write_line(f"\n{table}")
    for line in config.stash[WARNED]:
        terminalreporter.write_line(f"warning: {line}", yellow=True)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """The last lines: that nothing was scored, and of a run that did not end how to go on."""
    from edgecloud.results.kept import told

    reporter = config.pluginmanager.getplugin("terminalreporter")
    lines = [line for path in dict.fromkeys(config.stash.get(BEGUN, [])) if (line := told(path))]
    if reporter is None:
        return
    for line in config.stash.get(UNSCORED, []):
        reporter.write_line(f"warning: {line}", yellow=True)
    for line in lines:
        reporter.write_line(line)
