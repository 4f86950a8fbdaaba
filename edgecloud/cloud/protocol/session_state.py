"""One session as its server sees it: what both sides know of the output, and what a request asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from edgecloud.cloud.protocol import wire
from edgecloud.contracts import Acceptance, CloudChunk, CloudSession, StopLimits, Verdict
from edgecloud.contracts.sampling import Distribution
from edgecloud.errors import ContextLengthError, EdgeCloudError, WireError

__all__ = ["Generate", "Served", "Verify", "check_context"]

_LONGEST_CONTINUATION = 4096

Session = TypeVar("Session", bound=CloudSession)


@dataclass(frozen=True, slots=True)
class Verify:
    """A ``verify`` request, brought up to date. Of ``committed``, ``new`` tokens came with it."""

    committed: list[int]
    new: int
    draft: list[int]
    acceptance: Acceptance
    continuation: int
    draft_probabilities: list[Distribution]


@dataclass(frozen=True, slots=True)
class Generate:
    """A ``generate`` request, brought up to date. Of ``committed``, ``new`` tokens came with it."""

    committed: list[int]
    new: int
    limits: StopLimits


class Served(Generic[Session]):
    """A session and the output tokens that both sides know. ``prompt_tokens`` and its output are together
    at most ``context`` tokens, where that is said."""

    def __init__(
        self, name: bytes, session: Session, *, prompt_tokens: int = 0, context: int | None = None
    ) -> None:
        self.name = name
        self.session = session
        self._prompt_tokens = prompt_tokens
        self._context = context
        self._output: list[int] = []

    def asked(self, op: str, values: Sequence[Any]) -> Verify | Generate:
        """The request in ``message``. The output is what it says it is from here on, also when the request
        fails later: the edge counts on it.

        Raises:
            WireError: not a request of this version, or it does not follow what is known.
            ContextLengthError: it may become longer than the context; nothing has changed then.
        """
        if op == "verify":
            if len(values) != 6:
                raise WireError(
                    "verify: shared, new, draft, acceptance, continuation and what the draft was "
                    "drawn from were expected"
                )
            shared, new, draft, acceptance, continuation, draft_probabilities = values
            if not isinstance(draft, list) or not draft:
                raise WireError("verify: a draft is a list of tokens, one at least")
            if not wire.counted(continuation) or continuation > _LONGEST_CONTINUATION:
                raise WireError(f"verify: a continuation is of 0 to {_LONGEST_CONTINUATION} tokens")
            self._check_known(op, shared, new, len(draft) + continuation)
            if not _tokens(draft):
                raise WireError("verify: a draft is a list of tokens, one at least")
            if isinstance(draft_probabilities, list) and len(draft_probabilities) > len(draft):
                raise WireError(
                    "verify: every drafted token needs what it was drawn from, and there are more "
                    "distributions than tokens"
                )
            rule, distributions = (
                wire.acceptance_of(acceptance),
                wire.draft_probabilities_of(draft_probabilities),
            )
            return Verify(
                self._committed(shared, new), len(new), draft, rule, continuation, distributions
            )
        if op == "generate":
            if len(values) != 4:
                raise WireError("generate: shared, new and two limits were expected")
            shared, new, max_new_tokens, max_sentences = values
            limits = wire.limits_of(max_new_tokens, max_sentences)
            self._check_known(op, shared, new, most=max_new_tokens)
            return Generate(self._committed(shared, new), len(new), limits)
        raise WireError(f"unknown request {op!r}")

    def packed(self, seq: int, asked: Verify | Generate, answer: Verdict | CloudChunk) -> bytes:
        """The message that carries ``answer``; the output grows by what it holds."""
        if isinstance(answer, CloudChunk):
            at = len(self._output)
            self._output = [*self._output, *answer.tokens]
            return wire.pack_chunk(seq, self.name, answer, at=at)
        if isinstance(asked, Verify):
            self._output = [*asked.committed, *answer.output(asked.draft)]
        return wire.pack_verdict(seq, self.name, answer)

    def failed(self, seq: int, error: EdgeCloudError) -> bytes:
        """The message that says why there is no answer."""
        return wire.pack_error(seq, self.name, error)

    def _check_known(self, op: str, shared: Any, new: Any, more: int = 0, *, most: int = 0) -> None:
        """Raises WireError where the output may not go on so, ContextLengthError where ``more`` tokens after
        it, or up to ``most`` in all, do not fit the context. Lengths come first: what is too long is not
        looked through."""
        unknown = WireError(f"{op}: the committed tokens do not follow what is known")
        if not wire.counted(shared) or shared > len(self._output) or not isinstance(new, list):
            raise unknown
        output = shared + len(new)
        check_context(op, self._context, self._prompt_tokens, output, max(more, most - output))
        if not _tokens(new):
            raise unknown

    def _committed(self, shared: int, new: list[int]) -> list[int]:
        """The output from here on."""
        self._output = [*self._output[:shared], *new]
        return list(self._output)


def check_context(
    op: str, context: int | None, prompt_tokens: int, output: int = 0, more: int = 0
) -> None:
    """Raises ContextLengthError where a session's tokens would be more than ``context``."""
    total = prompt_tokens + output + more
    if context is not None and total > context:
        raise ContextLengthError(
            f"{op}: {prompt_tokens} tokens of the prompt, {output} of the output and up to {more} more "
            f"are {total}; this cloud takes {context}"
        )


def _tokens(value: Any) -> bool:
    return isinstance(value, list) and all(wire.counted(token) for token in value)
