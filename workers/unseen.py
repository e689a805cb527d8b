"""Log lines of a worker without values of secrets, whatever was logged."""

import logging
import time

from activities.adapters.egress_secrets import Redaction
from activities.ports.secrets import SecretSource

READ_AGAIN_S = 10.0
"""Seconds after which values are read anew."""


class Unseen(logging.Filter):
    """A filter for handlers: lets every record through, with `[secret NAME]` in place of values."""

    def __init__(self, source: SecretSource) -> None:
        """Know the values of this source."""
        super().__init__()
        self._source = source
        self._redaction = Redaction(())
        self._read_at = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Make values in the record unseen."""
        now = time.monotonic()
        if now - self._read_at > READ_AGAIN_S:
            self._read_at, self._redaction = now, Redaction(self._source.known().items())
        text = record.getMessage()
        said = self._redaction.text(text)
        if said != text:
            record.msg, record.args = said, None
        if record.exc_info and not record.exc_text:
            record.exc_text = self._redaction.text(logging.Formatter().formatException(record.exc_info))
        return True
