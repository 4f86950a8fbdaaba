"""Bearer tokens: those a service accepts, by client, and the one an edge sends.

A token file holds a line ``name bearer-token`` for each client, or one bare token. Blank lines and lines
that begin with ``#`` count for nothing. A token may hold any characters but control characters; in a header
it is UTF-8.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from edgecloud.errors import ConfigError

__all__ = ["ONLY_CLIENT", "authorization", "client_of", "read_token_file"]

ONLY_CLIENT = "default"
"""The name of the client where clients have none: everybody is one."""
_NAME = re.compile(r"[\w.-]{1,64}")


def authorization(token: str, source: str = "EDGECLOUD_TOKEN") -> bytes:
    """The header with ``token``, which was found in ``source``.

    Raises:
        ConfigError: it cannot stand in a header.
    """
    if any(unicodedata.category(sign) == "Cc" for sign in token.strip()):
        raise ConfigError(
            f"the bearer token in {source} holds a control character (a line break or a tab); no header "
            "can hold it"
        )
    # What is no text in the environment arrives as surrogates, and leaves as the bytes it was.
    return b"Bearer " + token.strip().encode("utf-8", "surrogateescape")


def client_of(borne: bytes, expected: Mapping[bytes, str]) -> str | None:
    """The name of the client whose token is in the header ``borne``; None where it is unknown."""
    found = None
    for header, name in expected.items():
        # All are compared, so that the time taken says nothing of any.
        if hmac.compare_digest(borne, header):
            found = name
    return found


def read_token_file(file: str) -> dict[str, str]:
    """Names of clients by their tokens.

    Raises:
        ConfigError: it cannot be read, holds no token, or a line that is not a client's.
    """
    try:
        text = Path(file).read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"token file {file} cannot be read ({error})") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line]
    if len(lines) > 1:
        lines = [(number, line) for number, line in lines if not line.startswith("#")]
    if not lines:
        raise ConfigError(f"token file {file} is empty")
    if len(lines) == 1 and len(lines[0][1].split()) != 2:
        found = {lines[0][1]: ONLY_CLIENT}
    else:
        found = _clients(lines, file)
        if len(lines) == 1:
            # It may also be one bare token that holds a space.
            found[lines[0][1]] = next(iter(found.values()))
    for token in found:
        authorization(token, file)
    return found


def _clients(lines: list[tuple[int, str]], file: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in lines:
        name, *rest = line.split()
        if len(rest) != 1 or not _NAME.fullmatch(name):
            raise ConfigError(
                f"token file {file}, line {number}: a client's name (letters, digits, . _ -) and its "
                "bearer token were expected, or one token alone in the file"
            )
        if name in found.values() or rest[0] in found:
            raise ConfigError(
                f"token file {file}, line {number}: that name or token is in an earlier line; each "
                "client needs its own"
            )
        found[rest[0]] = name
    return found
