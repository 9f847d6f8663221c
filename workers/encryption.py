"""Encryption of everything that Temporal stores of an order: inputs, results, messages, memos.

AES-GCM with 256-bit keys. Each payload carries the id of its key, so keys can be rotated: the first
key of `OMS_ENCRYPTION_KEYS` encrypts, all of them decrypt. Search attributes stay readable, because
the server filters by them: status, exchange, symbol, strategy and side.
"""

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, PayloadCodec

from trading.oms.errors import StartUpError

_ENCODING = b"binary/encrypted"
_NONCE_BYTES = 12
_KEY_BYTES = 32


class EncryptionCodec(PayloadCodec):
    """Encrypts with the first key, decrypts with the one that a payload names."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """`keys` by id, 32 bytes each; the first one encrypts."""
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._current = next(iter(keys))

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Each payload, whole with its metadata, as an encrypted one."""
        return [self._encrypted(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """The payloads as they were. One that is not encrypted comes back as it is.

        Raises `ValueError` for a key that is not known and for a payload that was tampered with.
        """
        return [self._decrypted(payload) for payload in payloads]

    def _encrypted(self, payload: Payload) -> Payload:
        nonce = os.urandom(_NONCE_BYTES)
        name = self._current.encode()
        text = self._ciphers[self._current].encrypt(nonce, payload.SerializeToString(), name)
        return Payload(metadata={"encoding": _ENCODING, "key": name}, data=nonce + text)

    def _decrypted(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != _ENCODING:
            return payload
        name = payload.metadata["key"]
        cipher = self._ciphers.get(name.decode(errors="replace"))
        if cipher is None:
            msg = f"a payload is encrypted with the key {name!r}, which is not configured"
            raise ValueError(msg)
        try:
            text = cipher.decrypt(payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:], name)
        except InvalidTag:
            msg = f"a payload does not fit its key {name!r}, or it was changed"
            raise ValueError(msg) from None
        return Payload.FromString(text)


def data_converter(keys: str) -> DataConverter:
    """The converter for `OMS_ENCRYPTION_KEYS`: "id:base64,id:base64", or "" for no encryption.

    Raises `StartUpError` that says which part is wrong, without showing a key.
    """
    if not keys:
        return pydantic_data_converter
    codec = EncryptionCodec(dict(_key(part) for part in keys.split(",")))
    return replace(pydantic_data_converter, payload_codec=codec)


def _key(part: str) -> tuple[str, bytes]:
    name, _, text = part.strip().partition(":")
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not name or len(key) != _KEY_BYTES:
        msg = (
            f"OMS_ENCRYPTION_KEYS: the key {name!r} must be written as id:base64 of "
            f"{_KEY_BYTES} bytes; this one has {len(key)} bytes"
        )
        raise StartUpError(msg)
    return name, key
