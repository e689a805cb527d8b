"""Log lines of a worker without values of secrets, whatever was logged."""

import logging
import time

from activities.adapters.egress_secrets import Known
from activities.ports.secrets import SecretSource

READ_AGAIN_S = 10.0
"""Seconds after which values are read anew."""


class Unseen(logging.Filter):
    """A filter for handlers: lets every record through, with `[secret NAME]` in place of values."""

    def __init__(self, source: SecretSource) -> None:
        """Know the values of this source."""
        super().__init__()
        self._known = Known(source)
        self._redaction = self._known.redaction()
        self._read_at = time.monotonic()

    def filter(self, record: logging.LogRecord) -> bool:
        """Make values in the record unseen."""
        now = time.monotonic()
        if now - self._read_at > READ_AGAIN_S:
            self._read_at, self._redaction = now, self._known.redaction()
        try:
            text = record.getMessage()
        except Exception as error:  # noqa: BLE001  # a filter's error would be that of whoever logs
            text = f"{record.msg!r} cannot be written with its arguments: {type(error).__name__}"
            record.msg, record.args = text, None
        said = self._redaction.text(text)
        if said != text:
            record.msg, record.args = said, None
        if record.exc_info and not record.exc_text:
            record.exc_text = self._redaction.text(logging.Formatter().formatException(record.exc_info))
        return True
