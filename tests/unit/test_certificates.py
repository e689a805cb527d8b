"""The digest of a deletion certificate: over what is written, whichever release reads it."""

import hashlib
import hmac
import json
from datetime import UTC, datetime

from hibernaut.models.deletion import Certificate, is_intact, sealed, written

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEY = b"k" * 32


def test_a_field_that_another_release_has_or_lacks_breaks_no_digest() -> None:
    made = sealed(Certificate(agent_id="ä", agent_uid="u1", asked_at=NOW, begun_at=NOW, written_at=NOW), KEY)
    raw = json.loads(written(made))
    for change in ({"extra": {"nested": [1.5, "ü"]}}, {"remnants": None, "pending": None}):
        body = {**{name: one for name, one in raw.items() if name != "digest"}, **change}
        body = {name: one for name, one in body.items() if one is not None}
        data = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        body["digest"] = {"algorithm": "hmac-sha256", "value": hmac.new(KEY, data, hashlib.sha256).hexdigest()}
        found = Certificate.model_validate_json(json.dumps(body))
        assert is_intact(found, KEY) is True
        # A copy that this release writes is as good.
        assert is_intact(Certificate.model_validate_json(written(found)), KEY) is True
        body["unsigned"] = "added by somebody"
        assert is_intact(Certificate.model_validate_json(json.dumps(body)), KEY) is False


def test_a_certificate_made_without_the_key_that_there_is_proves_nothing() -> None:
    made = Certificate(agent_id="a", agent_uid="u1", asked_at=NOW, begun_at=NOW, written_at=NOW)
    assert is_intact(sealed(made), KEY) is None
    assert is_intact(sealed(made).model_copy(update={"asked_by": "bob"}), KEY) is False
    assert is_intact(sealed(made)) is True


def test_a_certificate_of_another_release_is_intact() -> None:
    found = sealed(Certificate(agent_id="a", agent_uid="u", asked_at=NOW, begun_at=NOW, written_at=NOW), b"k" * 32)
    known = json.loads(found.model_dump_json())
    # What was written before a field was thought of, and what is written by a release that thought of more.
    older = {name: value for name, value in known.items() if name != "rewritten"}
    newer = known | {"witnesses": ["ann"], "retained": known["retained"] | {"why_so": "law"}}
    for body in (older, newer):
        del body["digest"]
        data = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        digest = {"algorithm": "hmac-sha256", "value": hmac.new(b"k" * 32, data, hashlib.sha256).hexdigest()}
        assert is_intact(Certificate.model_validate(body | {"digest": digest}), b"k" * 32) is True
    forged = newer | {"witnesses": [], "digest": digest}
    assert is_intact(Certificate.model_validate(forged), b"k" * 32) is False
