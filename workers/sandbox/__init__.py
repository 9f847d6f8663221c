"""The sandbox exchange: a process that speaks Binance Spot's REST and WebSocket API.

Start it with ``python -m workers.sandbox``; in tests, ``async with SandboxServer(config)``. What it
does and does not do is in ``README.md`` beside this file.
"""
