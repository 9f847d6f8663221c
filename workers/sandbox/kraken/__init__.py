"""Kraken Spot's protocol over the same engine: REST and WebSocket v2.

Source: docs.kraken.com, "Spot REST API", "Spot WebSockets v2" and the guides on authentication,
errors, client order identifiers, amends and trading limits.
"""
