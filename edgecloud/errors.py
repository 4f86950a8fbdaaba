"""Everything that goes wrong on purpose.

::

    EdgeCloudError                 any failure this package reports; one clear line, says what to do
    ├── ConfigError                a setting is unknown, mistyped, out of range, or its file is missing
    │   └── PluginError            a plug-in cannot be loaded, or brings a name that is taken
    ├── DataError                  input data cannot be used
    │   ├── ManifestError          a manifest is missing or broken; lists every problem found
    │   └── AudioError             a recording cannot be decoded or is outside the accepted range
    ├── ModelError                 a model cannot be loaded or used
    │   ├── CheckpointError        a checkpoint folder is missing, partial or of another family
    │   └── OutOfMemoryError       a device ran out of memory; the sample fails, the run goes on
    ├── CloudError                 the cloud did not give a usable answer
    │   ├── CloudUnavailable       it cannot be reached, or went away
    │   ├── CloudTimeout           it did not answer within the deadline
    │   ├── ContextLengthError     the request is longer than the cloud's context
    │   ├── SessionLost            it no longer knows the session: expired, or it was started again
    │   └── WireError              it answered something that is not a message of this version
    ├── WorkerError                the edge or cloud process died or did not start; holds its last words
    ├── JournalError               a journal belongs to another configuration or cannot be read
    ├── OutputError                a result cannot be written where it should go
    └── MetricError                text or settings that a metric cannot score
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "AudioError",
    "CheckpointError",
    "CloudError",
    "CloudTimeout",
    "CloudUnavailable",
    "ConfigError",
    "ContextLengthError",
    "DataError",
    "EdgeCloudError",
    "JournalError",
    "ManifestError",
    "MetricError",
    "ModelError",
    "OutOfMemoryError",
    "OutputError",
    "PluginError",
    "SessionLost",
    "WireError",
    "WorkerError",
    "name_of",
]


_SHOWN_PROBLEMS = 100


class EdgeCloudError(Exception):
    """Base of every failure this package reports. Its text says what is wrong and what to do."""


class ConfigError(EdgeCloudError):
    """A setting is unknown, mistyped, out of range, or its file is missing."""


class PluginError(ConfigError):
    """A plug-in cannot be loaded, or what it brings cannot be registered. One line."""


class DataError(EdgeCloudError):
    """Input data cannot be used."""


class ManifestError(DataError):
    """A manifest is missing or broken.

    ``problems`` lists every problem found, each naming entry and field; the message shows the first hundred.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        more = len(self.problems) - _SHOWN_PROBLEMS
        tail = [f"and {more} more"] if more > 0 else []
        super().__init__("\n  ".join([message, *self.problems[:_SHOWN_PROBLEMS], *tail]))


class AudioError(DataError):
    """A recording cannot be decoded, or is outside the accepted range."""


class ModelError(EdgeCloudError):
    """A model cannot be loaded or used."""


class CheckpointError(ModelError):
    """A checkpoint folder is missing, partial, or of a family that is not supported."""


class OutOfMemoryError(ModelError):
    """A device ran out of memory. The sample fails with this advice; the run goes on."""


class CloudError(EdgeCloudError):
    """The cloud did not give a usable answer."""


class CloudUnavailable(CloudError):
    """The cloud cannot be reached, or went away in the middle of a request."""


class CloudTimeout(CloudError):
    """The cloud did not answer within the deadline."""


class ContextLengthError(CloudError):
    """Prompt, output and what is asked for are together longer than the cloud's context."""


class SessionLost(CloudError):
    """The cloud does not know the session: it expired, was closed, or the cloud was started again."""


class WireError(CloudError):
    """A message is not one of this version's, or its content is out of range."""


class WorkerError(EdgeCloudError):
    """The edge or cloud process did not start or died; the message holds its last words."""


class JournalError(EdgeCloudError):
    """A journal belongs to another configuration, or cannot be read."""


class OutputError(EdgeCloudError):
    """A result cannot be written where it should go."""


class MetricError(EdgeCloudError):
    """Text or settings that a metric cannot score."""


def name_of(error: BaseException) -> str:
    """The name of an error's class as people are shown it: of a private class, that of its nearest public one."""
    return next(kind.__name__ for kind in type(error).__mro__ if not kind.__name__.startswith("_"))
