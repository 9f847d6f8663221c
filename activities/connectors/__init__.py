"""Connectors: one account at one exchange, behind `trading.oms.venue.IExecutionConnector`.

Nothing is imported here, because loading ccxt takes most of a second; `registry` loads a connector
when it is built.
"""
