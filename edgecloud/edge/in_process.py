"""Edge and cloud in one process, with the whole protocol between them: every byte is counted, none travels."""

from __future__ import annotations

from edgecloud.cloud.engine.self_drafting import local_cloud
from edgecloud.cloud.loopback import Loopback
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.edge.messages import Mode
from edgecloud.edge.request_handler import RequestHandler
from edgecloud.models.loading import LoadedModel
from edgecloud.models.translation import of_pair
from edgecloud.settings.config import Config

__all__ = ["handler_of"]


def handler_of(
    mode: Mode,
    config: Config,
    *,
    edge: LoadedModel,
    cloud: LoadedModel,
    cache_dir: str | None = None,
) -> RequestHandler:
    """A request handler for ``mode`` on loaded models. It has a sequence and sessions of its own on weights that others
    may use at the same time; ``cache_dir`` is :class:`RequestHandler`'s.

    Raises:
        ConfigError: the settings are no policy for these models.
    """
    server = MessageServer(local_cloud(cloud, edge, config.own_draft.tokens))
    processor, drafter = (cloud if mode == "cloud" else edge).processor, None
    if mode == "spec":
        processor, drafter = of_pair(edge.processor, cloud.processor)
    return RequestHandler(
        config,
        processor,
        edge=None if mode == "cloud" else edge.model.new_sequence(),
        cloud=None
        if mode == "edge"
        else RemoteCloud(Loopback(server), deadline_s=config.run.deadline_s),
        drafter=drafter,
        cache_dir=cache_dir,
    )
