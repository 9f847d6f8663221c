"""What a connector is told at its start; secrets are masked wherever they are shown."""

import ipaddress
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from trading.oms.errors import StartUpError
from trading.oms.models import Exact, Name

REST = {
    "binance": "https://api.binance.com",
    "binanceus": "https://api.binance.us",
    "bybit": "https://api.bybit.com",
    "coinbase": "https://api.coinbase.com",
    "kraken": "https://api.kraken.com",
    "okx": "https://www.okx.com",
}
STREAMS = {
    REST["binance"]: "wss://ws-api.binance.com:443/ws-api/v3",
    REST["binanceus"]: "wss://stream.binance.us:9443/ws",
    REST["bybit"]: "wss://stream.bybit.com/v5/private",
    REST["coinbase"]: "wss://advanced-trade-ws-user.coinbase.com",
    REST["kraken"]: "wss://ws-auth.kraken.com/v2",
    REST["okx"]: "wss://ws.okx.com:8443/ws/v5",
}

_STREAM_PATHS = {"bybit": "/v5/private", "coinbase": "", "kraken": "/v2", "okx": "/ws/v5"}


class ConnectorSettings(BaseModel):
    """One account at one exchange. Times are in milliseconds.

    `rest_url` and `ws_url` name another address than the exchange's own (the sandbox's); `ws_url`
    empty with a `rest_url` means the usual path on the same host. An address that is not loopback
    is refused unless `live` is true. `recv_window_ms` is the fence that queries and cancels carry;
    `stream_silence_ms` is how long a stream may be deaf before it is opened again. `experimental`
    lets real orders through a connector whose conformance cards have not passed at a venue.
    `dead_man_s` arms the exchange's dead-man switch, in seconds; 0: not. `tier` is what the
    exchange's limits of this account depend on, where they do (Kraken). `passphrase` is the third
    secret of a key where there is one (OKX). `demo` asks for the exchange's simulated trading where
    that has no address of its own (OKX).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange: Name
    account: Name
    kind: str = "binance"
    market: str = "spot"
    api_key: SecretStr
    secret: SecretStr
    passphrase: SecretStr = SecretStr("")
    rest_url: str = ""
    ws_url: str = ""
    recv_window_ms: int = Field(default=5000, ge=1, le=60_000)
    processing_bound_ms: int = Field(default=10_000, ge=0)
    clock_skew_ms: int = Field(default=1000, ge=0)
    data_lag_ms: int = Field(default=1000, ge=0)
    timeout_ms: int = Field(default=3000, ge=1)
    stream_silence_ms: int = Field(default=10_000, ge=100)
    dead_man_s: float = Field(default=0, ge=0)
    tier: str = ""
    taker_fee: Exact | None = Field(default=None, ge=0, lt=1)
    demo: bool = False
    live: bool = False
    experimental: bool = False

    def model_post_init(self, _context: object) -> None:
        """Fill in the exchange's own address, and the stream's from the REST address."""
        if not self.rest_url:
            object.__setattr__(self, "rest_url", REST.get(self.kind, ""))
        if not self.ws_url:
            object.__setattr__(self, "ws_url", _stream_address(self.kind, self.rest_url))

    def check(self) -> None:
        """Raise `StartUpError` for a market that is not spot, or money not meant to be touched."""
        if self.market != "spot":
            raise StartUpError(
                f"account {self.account!r} at {self.exchange!r} asks for the {self.market!r} "
                "market; only 'spot' is supported"
            )
        if self.tier and self.kind == "binance":
            raise StartUpError(
                f"tier is {self.tier!r} for account {self.account!r} at {self.exchange!r}; "
                "Binance has no tiers"
            )
        for address in (self.rest_url, self.ws_url):
            if not is_loopback(address) and not self.live:
                raise StartUpError(
                    f"account {self.account!r} at {self.exchange!r} points to "
                    f"{urlsplit(address).hostname!r}, which is not this machine; set live=true "
                    "for this account if real orders are meant, else give the sandbox's address"
                )


def is_loopback(address: str) -> bool:
    """Whether an address stays on this machine. A name other than localhost does not count."""
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _stream_address(kind: str, rest_url: str) -> str:
    parts = urlsplit(rest_url)
    if rest_url.rstrip("/") in STREAMS:
        return STREAMS[rest_url.rstrip("/")]
    path = _STREAM_PATHS.get(kind, "/ws-api/v3")
    return f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}{path}"
