"""What Temporal stores can be encrypted, with keys that rotate."""

import base64

import pytest
from temporalio.api.common.v1 import Payload

from trading.oms.errors import StartUpError
from workers.encryption import EncryptionCodec, data_converter

OLD, NEW = b"o" * 32, b"n" * 32
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'{"order": "secret"}')


async def test_a_payload_comes_back_and_is_not_readable_on_the_way() -> None:
    codec = EncryptionCodec({"a": NEW})
    [hidden] = await codec.encode([PLAIN])
    assert b"secret" not in hidden.SerializeToString()
    assert await codec.decode([hidden]) == [PLAIN]


async def test_an_old_key_still_decrypts_after_a_rotation() -> None:
    [hidden] = await EncryptionCodec({"old": OLD}).encode([PLAIN])
    rotated = EncryptionCodec({"new": NEW, "old": OLD})
    assert await rotated.decode([hidden]) == [PLAIN]
    [again] = await rotated.encode([PLAIN])
    assert again.metadata["key"] == b"new"


async def test_a_payload_that_is_not_encrypted_is_read_as_it_is() -> None:
    assert await EncryptionCodec({"a": NEW}).decode([PLAIN]) == [PLAIN]


async def test_an_unknown_key_and_a_changed_payload_are_refused() -> None:
    [hidden] = await EncryptionCodec({"old": OLD}).encode([PLAIN])
    with pytest.raises(ValueError, match="not configured"):
        await EncryptionCodec({"new": NEW}).decode([hidden])
    hidden.data = hidden.data[:-1] + bytes([hidden.data[-1] ^ 1])
    with pytest.raises(ValueError, match="changed"):
        await EncryptionCodec({"old": OLD}).decode([hidden])


def test_keys_are_read_from_the_setting_and_wrong_ones_are_named() -> None:
    good = "a:" + base64.b64encode(NEW).decode()
    assert data_converter(good).payload_codec is not None
    assert data_converter("").payload_codec is None
    for wrong in ("a:short", good + ",b:AAAA", ":" + good[2:]):
        with pytest.raises(StartUpError, match="32 bytes"):
            data_converter(wrong)
