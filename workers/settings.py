"""The settings of a process, from the environment. Secrets are masked wherever they show.

Exchanges are listed in OMS_EXCHANGES; each has its own variables, with its name in capitals:
OMS_ALPHA_URL, OMS_ALPHA_API_KEY and so on. A secret can also be given as a file, by the same
name with _FILE behind it. The connection to Temporal is read by the SDK from TEMPORAL_ADDRESS,
TEMPORAL_NAMESPACE, TEMPORAL_API_KEY, TEMPORAL_TLS… (`temporalio.envconfig`).
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from activities.alert_settings import AlertSettings, names_of
from activities.connectors.settings import ConnectorSettings
from trading.oms.commands import problem
from trading.oms.errors import StartUpError
from trading.oms.models import Name
from trading.oms.routing.smart import RoutingStrategy

DEFAULT_ALERTS = "order_in_doubt"
DEFAULT_STORE = "sqlite:///oms.sqlite3"


class Variable(NamedTuple):
    """One documented environment variable."""

    name: str
    meaning: str
    default: str = ""


VARIABLES = (
    Variable("OMS_STORE_URL", "the database: sqlite:///file or postgresql://…", DEFAULT_STORE),
    Variable("OMS_DEPLOYMENT", "the name that marks this deployment's exchange ids", "oms"),
    Variable("OMS_TASK_QUEUE", "the task queue of the order workflows", "oms-orders"),
    Variable("OMS_EXCHANGES", "the exchanges to connect to, separated by commas"),
    Variable(
        "OMS_ROUTING",
        "where orders go that name no exchange: configured (to the default one), best_price (with "
        "fees, over the depth that the quantity needs), liquidity (to the deepest book) or split "
        "(divided into legs, to where each part is cheapest)",
        "configured",
    ),
    Variable(
        "OMS_DEFAULT_EXCHANGE", "the default exchange; of equal offers it is taken", "the first one"
    ),
    Variable("OMS_RECONCILE_S", "seconds between reconciliations; 0: none by itself", "60"),
    Variable("OMS_RISK_FILE", "the TOML file with the risk limits", "the limits' defaults"),
    Variable("OMS_ALERT_URL", "the webhook that alerts are sent to (or OMS_ALERT_URL_FILE)"),
    Variable("OMS_ALERT_EVENTS", "the events that alert; a * stands for anything", DEFAULT_ALERTS),
    Variable("OMS_ALERT_SECRET", "what alerts are signed with (or OMS_ALERT_SECRET_FILE)"),
    Variable(
        "OMS_RATE_WAIT_S", "the longest wait for a rate limit; later an order is denied", "60"
    ),
    Variable("OMS_UI_URL", "the address of the Temporal web UI, for links"),
    Variable(
        "OMS_ENCRYPTION_KEYS",
        "id:base64 of 32 bytes, separated by commas; the first key encrypts what Temporal stores",
    ),
    Variable("OMS_METRICS", "host:port where the worker serves its metrics to Prometheus"),
    Variable("OMS_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR", "INFO"),
)
EXCHANGE_VARIABLES = (
    Variable("OMS_<NAME>_ACCOUNT", "the account's name", "main"),
    Variable(
        "OMS_<NAME>_KIND",
        "the connector: binance, binanceus, bybit, coinbase, kraken, okx; one of your own as "
        "module:name",
        "binance",
    ),
    Variable("OMS_<NAME>_MARKET", "the market; spot is all there is", "spot"),
    Variable("OMS_<NAME>_URL", "another REST address than the exchange's own"),
    Variable("OMS_<NAME>_WS_URL", "another stream address", "derived from the REST address"),
    Variable("OMS_<NAME>_API_KEY", "the key (or OMS_<NAME>_API_KEY_FILE)"),
    Variable("OMS_<NAME>_API_SECRET", "its secret (or OMS_<NAME>_API_SECRET_FILE)"),
    Variable(
        "OMS_<NAME>_API_PASSPHRASE",
        "the key's third secret, where it has one: OKX (or OMS_<NAME>_API_PASSPHRASE_FILE)",
    ),
    Variable("OMS_<NAME>_RECV_WINDOW_MS", "the fence of a request, milliseconds", "5000"),
    Variable("OMS_<NAME>_PROCESSING_BOUND_MS", "how late an order may appear", "10000"),
    Variable("OMS_<NAME>_CLOCK_SKEW_MS", "how far clocks may be apart", "1000"),
    Variable("OMS_<NAME>_DATA_LAG_MS", "how far queries may lag behind", "1000"),
    Variable("OMS_<NAME>_TIMEOUT_MS", "how long to wait for an answer", "3000"),
    Variable(
        "OMS_<NAME>_DEAD_MAN_S",
        "seconds after which the exchange cancels the account's orders when all workers are gone, "
        "where it can; 0: never",
        "0",
    ),
    Variable(
        "OMS_<NAME>_TIER",
        "the account's tier, which Kraken's limits depend on: starter, intermediate, pro, or none",
        "starter",
    ),
    Variable(
        "OMS_<NAME>_TAKER_FEE",
        "the account's worst fee as a fraction (0.001 is 0.1 %), for routing and, at Kraken and "
        "Coinbase, for what a buy reserves",
        "the exchange's first tier",
    ),
    Variable(
        "OMS_<NAME>_DEMO",
        "true for the exchange's simulated trading where that has no address of its own: OKX",
        "false",
    ),
    Variable("OMS_<NAME>_LIVE", "true where real money is meant", "false"),
    Variable(
        "OMS_<NAME>_EXPERIMENTAL",
        "true where it may go through a connector whose conformance cards have not passed",
        "false",
    ),
)
_CONNECTOR_FIELDS = {
    "ACCOUNT": "account",
    "KIND": "kind",
    "MARKET": "market",
    "URL": "rest_url",
    "WS_URL": "ws_url",
    "API_KEY": "api_key",
    "API_SECRET": "secret",
    "API_PASSPHRASE": "passphrase",
    "RECV_WINDOW_MS": "recv_window_ms",
    "PROCESSING_BOUND_MS": "processing_bound_ms",
    "CLOCK_SKEW_MS": "clock_skew_ms",
    "DATA_LAG_MS": "data_lag_ms",
    "TIMEOUT_MS": "timeout_ms",
    "DEAD_MAN_S": "dead_man_s",
    "TIER": "tier",
    "TAKER_FEE": "taker_fee",
    "DEMO": "demo",
    "LIVE": "live",
    "EXPERIMENTAL": "experimental",
}
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_NEEDED = frozenset({"API_KEY", "API_SECRET"})
_SECRETS = _NEEDED | {"API_PASSPHRASE"}


class Settings(BaseModel):
    """What a process is told at its start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store_url: SecretStr = SecretStr(DEFAULT_STORE)
    deployment: Name = "oms"
    task_queue: str = Field(default="oms-orders", min_length=1)
    exchanges: tuple[ConnectorSettings, ...] = ()
    routing: RoutingStrategy = RoutingStrategy.CONFIGURED
    default_exchange: str = ""
    reconcile_s: int = Field(default=60, ge=0)
    risk_file: str = ""
    alert_url: SecretStr | None = None
    alert_secret: SecretStr | None = None
    alert_events: str = DEFAULT_ALERTS
    rate_wait_s: float = Field(default=60.0, ge=0)
    ui_url: str = ""
    log_level: str = "INFO"

    @field_validator("alert_url")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        parts = urlsplit(value.get_secret_value()) if value else None
        if parts and (parts.scheme not in {"http", "https"} or not parts.hostname):
            msg = "it is no address; it begins with https:// or http://"
            raise ValueError(msg)
        return value

    @field_validator("log_level")
    @classmethod
    def _is_a_level(cls, value: str) -> str:
        if value.upper() not in _LOG_LEVELS:
            msg = f"is {value!r}; must be one of {', '.join(_LOG_LEVELS)}"
            raise ValueError(msg)
        return value.upper()

    @field_validator("alert_events")
    @classmethod
    def _are_events(cls, value: str) -> str:
        names_of(value)
        return value

    @property
    def alerts(self) -> AlertSettings | None:
        """Where alerts go; None: nowhere."""
        if self.alert_url is None:
            return None
        names = names_of(self.alert_events)
        return AlertSettings(self.alert_url, self.alert_secret, names, self.deployment)

    @property
    def live(self) -> list[str]:
        """The accounts that trade with real money, as exchange/account."""
        return [f"{one.exchange}/{one.account}" for one in self.exchanges if one.live]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read the variables above. Raises `StartUpError` with everything that is wrong."""
        values = os.environ if environment is None else environment
        names = [name.strip() for name in values.get("OMS_EXCHANGES", "").split(",")]
        given: dict[str, Any] = {
            field: values[f"OMS_{field.upper()}"]
            for field in cls.model_fields
            if field != "exchanges" and values.get(f"OMS_{field.upper()}")
        }
        for field in ("alert_url", "alert_secret"):
            value = _from_file(values.get(f"OMS_{field.upper()}_FILE"))
            if value and field not in given:
                given[field] = value
        try:
            return cls(exchanges=tuple(_exchange(name, values) for name in names if name), **given)
        except ValidationError as error:
            msg = f"the settings are wrong: {problem(error)}"
            raise StartUpError(msg) from None


def exchange_prefix(name: str) -> str:
    """How the variables of an exchange begin: "OMS_ALPHA_"."""
    return f"OMS_{re.sub('[^A-Z0-9]', '_', name.upper())}_"


def _exchange(name: str, values: Mapping[str, str]) -> ConnectorSettings:
    prefix = exchange_prefix(name)
    given: dict[str, Any] = {"exchange": name, "account": "main"}
    for suffix, field in _CONNECTOR_FIELDS.items():
        value = values.get(prefix + suffix)
        if suffix in _SECRETS and not value:
            value = _from_file(values.get(f"{prefix}{suffix}_FILE"))
        if value:
            given[field] = value
    missing = [prefix + suffix for suffix in sorted(_NEEDED) if not _has(given, suffix)]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        msg = f"exchange {name!r} is in OMS_EXCHANGES, but {' and '.join(missing)} {are} not set"
        raise StartUpError(msg)
    try:
        return ConnectorSettings(**given)
    except ValidationError as error:
        msg = f"the settings of exchange {name!r} ({prefix}…) are wrong: {problem(error)}"
        raise StartUpError(msg) from None


def _has(given: Mapping[str, Any], suffix: str) -> bool:
    return bool(given.get(_CONNECTOR_FIELDS[suffix]))


def _from_file(path: str | None) -> str | None:
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        msg = f"the secret's file {path!r} cannot be read: {error.strerror}"
        raise StartUpError(msg) from None
    except UnicodeDecodeError:  # Its words would show a part of the secret.
        msg = f"the secret's file {path!r} is no UTF-8"
        raise StartUpError(msg) from None
