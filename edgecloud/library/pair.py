"""Two loaded models that decode together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgecloud.edge.in_process import handler_of
from edgecloud.edge.messages import Mode
from edgecloud.edge.request_handler import RequestHandler
from edgecloud.errors import ModelError
from edgecloud.experiments.checking import check_here, model_of
from edgecloud.library.quiet import watched
from edgecloud.library.settings import PAIR, settings_of
from edgecloud.models.loading import LoadedModel
from edgecloud.models.precision import load_model
from edgecloud.models.processor import Processor
from edgecloud.models.translation import of_pair
from edgecloud.settings.config import Config

__all__ = ["Pair", "load_pair"]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A handle on two loaded models. As many threads as like may decode with it at once; as a context manager it lets
    go of both at the end.

    ``settings`` are those that it was loaded with, as in a result (JSON).
    """

    settings: Mapping[str, Any]
    _loaded: dict[str, Any] = field(repr=False)

    @property
    def edge(self) -> LoadedModel:
        """The model that drafts, its processor and its facts.

        Raises:
            ModelError: the pair is closed.
        """
        found: LoadedModel = self._side("edge")
        return found

    @property
    def cloud(self) -> LoadedModel:
        """The model that verifies, its processor and its facts.

        Raises:
            ModelError: the pair is closed.
        """
        found: LoadedModel = self._side("cloud")
        return found

    @property
    def processor(self) -> Processor:
        """What makes prompts of recordings and words, and text of the pair's tokens: the cloud's, where the edge
        has a vocabulary of its own.

        Raises:
            ModelError: the pair is closed.
        """
        return of_pair(self.edge.processor, self.cloud.processor)[0]

    @property
    def accepts_audio(self) -> bool:
        """True when both models take recordings; otherwise the pair answers prompts of text.

        Raises:
            ModelError: the pair is closed.
        """
        return self.edge.processor.accepts_audio and self.cloud.processor.accepts_audio

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers of the pair's tokens.

        Raises:
            ModelError: the pair is closed.
        """
        return self.processor.tokenizer

    def handler(self, mode: Mode, config: Config) -> RequestHandler:
        """A request handler in this process, with a sequence of its own.

        Raises:
            ModelError: the pair is closed.
            ConfigError: the settings are no policy for these models.
        """
        return handler_of(mode, config, edge=self.edge, cloud=self.cloud)

    def close(self) -> None:
        """Let go of both models. Safe to call twice."""
        self._loaded.clear()

    def _side(self, side: str) -> Any:
        try:
            return self._loaded[side]
        except KeyError:
            raise ModelError("this pair is closed; load another one") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def load_pair(
    edge: str | Path | None = None,
    cloud: str | Path | None = None,
    *,
    progress: bool = False,
    **settings: Any,
) -> Pair:
    """Load two models into this process: folders or a hub's ``ORG/NAME@REVISION``, the embedded miniatures when not
    given.

    ``settings`` are ``edge_device``, ``edge_dtype``, ``edge_quantization``, ``cloud_device``, ``cloud_dtype``,
    ``cloud_quantization`` and ``verify_weights``, as the options of these names. That the two fit to each other and into memory is checked first.
    ``progress`` shows on standard error what loading is at.

    Raises:
        ConfigError: a setting is unknown or wrong.
        ModelError: a model cannot be had or loaded, or the two do not fit together.
    """
    models = {"edge_model": edge and str(edge), "cloud_model": cloud and str(cloud)}
    config = settings_of(
        settings,
        by="load_pair",
        allowed=PAIR,
        instead="give it to what decodes",
        own={**models, "max_memory_gb": 0.0},
    )
    own = config.models
    with watched(progress):
        check_here(config)
        drafts = load_model(
            *model_of(own.edge, "edge"),
            verify=config.service.verify_weights,
            **own.placement("edge"),
        )
        verifies = load_model(
            *model_of(own.cloud, "cloud"),
            verify=config.service.verify_weights,
            **own.placement("cloud"),
        )
    found = config.to_json()
    return Pair(
        {name: found[name] for name in (*models, *PAIR)}, {"edge": drafts, "cloud": verifies}
    )
