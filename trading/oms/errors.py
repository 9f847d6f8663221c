"""Everything the OMS raises, in one tree.

    OmsError
    ├── InvalidOrder              bad input at the door: field, value and what is allowed
    ├── OrderExists               the id is taken by an order with other content
    ├── OrderNotFound             no order has this id
    ├── StateUnavailable          this door cannot know: no store, or an end unseen
    ├── Closed                    this order manager was closed, and nobody has started it again
    ├── StartUpError              a process cannot start; says what is wrong and what to do
    ├── StoreUnavailable          the database did not confirm the write in time; safe to repeat
    ├── StoreRefused              the database refused the values; repeating will not help
    ├── JournalWentBack           the journal has lost what was read of it: a restored store
    ├── UnreadableOrder           an order's row is of a version that this program does not know
    ├── ServiceUnavailable        Temporal did not answer; the same call may be repeated
    └── ExchangeError             the classification of every call to an exchange
        ├── ExchangeRejected      definite: the exchange said no, nothing was placed or changed
        ├── ExchangeUnavailable   nothing was sent, or it provably never reached the engine
        └── OutcomeUnknown        sent, and not known what became of it: look up, never resend
            └── DuplicateOrder    the exchange knows this client id: evidence that the order lives

Denials are values (`RiskCheckResult`, `OrderResult`); only the edges raise.
"""

from collections.abc import Mapping
from typing import Any


class OmsError(Exception):
    """The root of all errors of the OMS."""


class InvalidOrder(OmsError, ValueError):
    """Input refused at the door, before anything was stored or sent."""


class OrderExists(OmsError):
    """The client order id belongs to an order with other content."""


class OrderNotFound(OmsError, LookupError):
    """No order has this id."""


class StateUnavailable(OmsError):
    """This door cannot know: it has no store to read, or the order may have ended unseen here."""


class Closed(OmsError):
    """A call after `close`; nothing was asked of anybody."""

    def __init__(self) -> None:
        """Say what can be done."""
        super().__init__("this order manager was closed; start it again, or make another one")


class StartUpError(OmsError):
    """A process cannot start; the message says what is wrong and what to do."""


class StoreUnavailable(OmsError):
    """The database did not confirm in time: the write is whole or not there, safe to repeat."""


class StoreRefused(OmsError):
    """The database refused the values of this write; nothing was changed, nor would be."""


class JournalWentBack(OmsError):
    """The journal does not hold what was read of it: the store was restored from a backup.

    Every entry up to `shared` is what it was.
    """

    def __init__(self, text: str, *, shared: int) -> None:
        """Keep from where to go on."""
        super().__init__(text)
        self.shared = shared


class UnreadableOrder(OmsError):
    """A row of an order that this program cannot read; as a rule a newer version has written it.

    It names the order by our id, its symbol and the exchange's two ids.
    """

    def __init__(self, row: Mapping[str, Any], error: Exception) -> None:
        """`row` as it is stored, `error` is what it was read with."""
        self.client_order_id: str = row["client_order_id"]
        self.symbol: str = row["symbol"]
        self.exchange_client_id: str | None = row["exchange_client_id"]
        self.exchange_order_id: str | None = row["exchange_order_id"]
        super().__init__(f"the row of order {self.client_order_id} cannot be read: {error}")


class ServiceUnavailable(OmsError):
    """Temporal did not answer; the order may exist, so submit the same object again."""


class ExchangeError(OmsError):
    """A call to an exchange that did not succeed.

    `code` is the exchange's own code as text (Binance: "-2010"), `text` its message, `status`
    the HTTP status where there was one.
    """

    def __init__(self, text: str, *, code: str | None = None, status: int | None = None) -> None:
        """Keep the exchange's own words: text, code and HTTP status."""
        super().__init__(f"{code}: {text}" if code else text)
        self.text = text
        self.code = code
        self.status = status


class ExchangeRejected(ExchangeError):
    """Definite: the exchange refused, and nothing was placed or changed by this request."""


class ExchangeUnavailable(ExchangeError):
    """Nothing was sent, or the refusal proves that it never reached the matching engine.

    `retry_after` is in seconds, from the exchange's header where it gave one.
    """

    def __init__(
        self,
        text: str,
        *,
        code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Keep the exchange's words and the pause in seconds that it asked for."""
        super().__init__(text, code=code, status=status)
        self.retry_after = retry_after


class OutcomeUnknown(ExchangeError):
    """The request left us and its effect is not known: look it up, never send it again."""


class DuplicateOrder(OutcomeUnknown):
    """The exchange already has an order with this client id: evidence that ours lives."""
