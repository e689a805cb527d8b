"""What the environment says of a codec server."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from hibernaut.codec import FILE_VARIABLE, PayloadKeys
from hibernaut.connection import resolve, token_from
from hibernaut.errors import InvalidSettings
from workers.settings import Listen

LISTEN = "127.0.0.1:8485"
TOKEN = "HIBERNAUT_CODEC_TOKEN"  # noqa: S105  # the variable's name


@dataclass(frozen=True, slots=True)
class CodecSettings:
    """All that a codec server is told."""

    listen: Listen
    """HIBERNAUT_CODEC_LISTEN."""
    token: SecretStr | None
    """HIBERNAUT_CODEC_TOKEN, or the content of the file HIBERNAUT_CODEC_TOKEN_FILE."""
    origins: tuple[str, ...]
    """HIBERNAUT_CODEC_ORIGINS: where the web UI is served from."""
    namespace: str
    """TEMPORAL_NAMESPACE: the one whose payloads it opens and seals."""
    keys: PayloadKeys

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read and check everything.

        Raises:
            InvalidSettings: it cannot be used, or others than this machine could have everything opened.
        """
        env = dict(os.environ if environ is None else environ)
        connection = resolve(environ=env, use_file=False)
        if not connection.payload_keys.names:
            raise InvalidSettings(
                "The codec server has no keys.", hint=f"Set {FILE_VARIABLE} to the workers' key file."
            )
        text = env.get("HIBERNAUT_CODEC_LISTEN") or LISTEN
        try:
            listen = Listen.parse(text)
        except ValueError as error:
            raise InvalidSettings(f"HIBERNAUT_CODEC_LISTEN {error}.") from None
        token = token_from(env, TOKEN)
        if token is None and not listen.loopback:
            raise InvalidSettings(
                f"The codec server is to listen on {listen.host}, where others could have everything opened, and has "
                "no token.",
                hint=f"Set {TOKEN}_FILE, or listen on 127.0.0.1.",
            )
        return cls(
            listen,
            token,
            _origins(env.get("HIBERNAUT_CODEC_ORIGINS", "")),
            connection.namespace,
            connection.payload_keys,
        )


def _origins(text: str) -> tuple[str, ...]:
    found = tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
    for origin in found:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path:
            raise InvalidSettings(
                f"HIBERNAUT_CODEC_ORIGINS names {origin[:80]!r}, which is no origin.",
                hint="Write it as http://127.0.0.1:8233, with commas between several.",
            )
    return found
