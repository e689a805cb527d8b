"""Sealed bytes: whatever is changed, moved or lacks its key does not open, and says why."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, strategies as st

from activities.errors import SnapshotDamaged, SnapshotError, SnapshotSealed
from activities.snapshots.packs import open_frame
from activities.snapshots.sealing import FRAME, ID_BYTES, MAGIC, OVERHEAD, PLAIN, Key, KeyRing, key_of

FIRST = Key("first", bytes(range(32)))
SECOND = Key("second", bytes(range(1, 33)))
RING = KeyRing([FIRST])


@given(st.binary(max_size=5000), st.binary(max_size=50))
def test_what_is_sealed_opens_in_its_context_alone(data: bytes, context: bytes) -> None:
    sealed = RING.seal(data, context)
    assert len(sealed) == len(data) + OVERHEAD
    assert RING.open(sealed, context) == data
    with pytest.raises(SnapshotDamaged, match="belongs elsewhere"):
        RING.open(sealed, context + b"x")


def test_every_changed_byte_and_every_cut_is_noticed() -> None:
    sealed = RING.seal(b"content of a file", FRAME)
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        if at < len(MAGIC):
            # It is taken for what is not sealed, which is no frame either.
            with pytest.raises(SnapshotDamaged):
                open_frame(changed, 17, RING)
        elif at < len(MAGIC) + ID_BYTES:
            with pytest.raises(SnapshotSealed):
                RING.open(changed, FRAME)
        else:
            with pytest.raises(SnapshotDamaged):
                RING.open(changed, FRAME)
    for length in range(len(sealed)):
        with pytest.raises(SnapshotError):
            open_frame(sealed[:length], 17, RING)
    with pytest.raises(SnapshotDamaged):
        RING.open(sealed + b"x", FRAME)


def test_the_format_is_as_documented() -> None:
    """By `docs/snapshot-format.md` alone."""
    secret = FIRST.secret
    sealed = RING.seal(b"content", b"agents/u/snapshots/manifests/00000001")
    assert sealed[:16] == b"HIBERNAUT-SEAL1\n"
    assert sealed[16:24] == blake3(secret, derive_key_context="hibernaut snapshot key id").digest()[:8]
    associated = sealed[:24] + b"agents/u/snapshots/manifests/00000001"
    assert AESGCM(secret).decrypt(sealed[24:36], sealed[36:], associated) == b"content"


def test_the_same_is_never_sealed_alike() -> None:
    assert len({RING.seal(b"same", FRAME) for _ in range(100)}) == 100


def test_the_first_key_seals_and_all_of_them_open() -> None:
    old = RING.seal(b"old", FRAME)
    rotated = KeyRing([SECOND, FIRST])
    new = rotated.seal(b"new", FRAME)
    assert (key_of(old), key_of(new)) == (FIRST.id, SECOND.id)
    assert (rotated.open(old, FRAME), rotated.open(new, FRAME)) == (b"old", b"new")
    with pytest.raises(SnapshotSealed):
        RING.open(new, FRAME)


def test_without_a_key_nothing_is_sealed_and_what_is_not_opens_everywhere() -> None:
    assert PLAIN.key_id is None
    assert PLAIN.seal(b"data", FRAME) == b"data"
    assert PLAIN.open(b"data", FRAME) == RING.open(b"data", FRAME) == b"data"
    assert key_of(b"data") is None


def test_a_missing_key_is_named_with_what_to_do() -> None:
    sealed = RING.seal(b"data", b"agents/u/snapshots/manifests/00000001")
    for ring, known in ((PLAIN, "no key is"), (KeyRing([SECOND]), f"{SECOND.id} is, as 'second'")):
        with pytest.raises(SnapshotSealed) as caught:
            ring.open(sealed, b"agents/u/snapshots/manifests/00000001")
        text = str(caught.value)
        for part in ("agents/u/snapshots/manifests/00000001", FIRST.id, known, "HIBERNAUT_SNAPSHOT_KEYS_FILE"):
            assert part in text
    assert not SnapshotSealed.retryable


def test_the_wrong_key_under_the_right_id_does_not_open() -> None:
    sealed = RING.seal(b"data", FRAME)
    forged = sealed[: len(MAGIC)] + bytes.fromhex(SECOND.id) + sealed[len(MAGIC) + ID_BYTES :]
    with pytest.raises(SnapshotDamaged):
        KeyRing([FIRST, SECOND]).open(forged, FRAME)


def test_keys_are_not_shown() -> None:
    secret = FIRST.secret
    for shown in (repr(FIRST), str(FIRST), repr(RING), str(RING), f"{RING.__dict__}", repr([FIRST])):
        assert secret.hex() not in shown
        assert repr(secret)[2:20] not in shown
    assert secret.hex()[:8] not in FIRST.id
    # The id is the key's own, whatever it is called.
    assert Key("other", FIRST.secret).id == FIRST.id != SECOND.id
    with pytest.raises(TypeError):
        pickle.dumps(RING)


def test_threads_share_a_ring() -> None:
    def work(number: int) -> bool:
        data = number.to_bytes(2) * 5000
        return all(RING.open(RING.seal(data, FRAME), FRAME) == data for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(64)))


def test_a_sealed_frame_is_bounded_like_any() -> None:
    bomb = RING.seal(zstandard.ZstdCompressor().compress(bytes(100_000_000)), FRAME)
    with pytest.raises(SnapshotDamaged):
        open_frame(bomb, 1000, RING)
