"""A connector to an exchange with a dead-man switch: the sandbox with its own endpoint for it."""

from activities.connectors.binance_connector import BinanceConnector
from activities.connectors.classify import Operation
from activities.connectors.settings import ConnectorSettings
from activities.connectors.wire import Call


class SwitchedConnector(BinanceConnector):
    def __init__(self, settings: ConnectorSettings) -> None:
        super().__init__(settings)
        known = {"cancel_all_after": "countdownCancelAll"}
        self.capabilities = self.capabilities.model_copy(update=known)

    async def cancel_all_after(self, seconds: float) -> None:
        milliseconds = {"countdownTime": str(int(seconds * 1000))}
        await self._wire.call(Call(Operation.CANCEL), "POST", "countdownCancelAll", milliseconds)
