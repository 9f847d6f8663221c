"""Where ccxt finds this exchange: the only thing that has to be told to its classes."""

from typing import Any

Urls = dict[str, Any]


def ccxt_urls(url: str) -> Urls:
    """The ``urls`` for ``ccxt.binance``, ``ccxt.async_support.binance`` and ``ccxt.pro.binance``.

    ``url`` is ``http://127.0.0.1:PORT``. Use it as ``ccxt.pro.binance({"apiKey": …, "secret": …,
    "urls": ccxt_urls(url)})``. The market streams are at ``/stream/ws`` because ccxt takes an
    address for spot by the ``/stream`` in it, as in ``wss://stream.binance.com``.
    """
    socket = url.replace("http", "ws", 1)
    versions = {
        "sapi": "/sapi/v1",
        "sapiV2": "/sapi/v2",
        "sapiV3": "/sapi/v3",
        "sapiV4": "/sapi/v4",
        "fapiPublic": "/fapi/v1",
        "dapiPublic": "/dapi/v1",
        "public": "/api/v3",
        "private": "/api/v3",
        "v1": "/api/v1",
    }
    return {
        "api": {
            **{name: url + path for name, path in versions.items()},
            "ws": {
                "spot": f"{socket}/stream/ws",
                "margin": f"{socket}/stream/ws",
                "ws-api": {"spot": f"{socket}/ws-api/v3"},
            },
        }
    }


def ccxt_kraken_urls(url: str) -> Urls:
    """The ``urls`` for ccxt's Kraken classes."""
    socket = url.replace("http", "ws", 1)
    ws = dict.fromkeys(("public", "private", "publicV2", "privateV2"), f"{socket}/v2")
    return {"api": {"public": url, "private": url, "ws": ws}}
