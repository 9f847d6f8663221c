"""``python -m workers.sandbox``: one sandbox exchange as a process.

Prints one line of JSON when it is ready, logs to stderr, ends on SIGTERM and SIGINT.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from workers.sandbox.config import (
    BINANCE,
    MARKETS,
    PROTOCOLS,
    KrakenLimits,
    SandboxConfig,
    default_symbols,
    parse_account,
)
from workers.sandbox.errors import ApiError
from workers.sandbox.exact import amount_of
from workers.sandbox.server import SandboxServer

ACCOUNTS_VARIABLE = "OMS_SANDBOX_ACCOUNTS"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workers.sandbox",
        description="A sandbox exchange on 127.0.0.1 that speaks Binance Spot's API or Kraken's.",
        epilog=f"Accounts also come from {ACCOUNTS_VARIABLE}, separated by semicolons or spaces.",
    )
    add = parser.add_argument
    add("--name", default="sandbox", help="its name, for logs and the ready line")
    add("--protocol", choices=PROTOCOLS, default=BINANCE, help="whose API it speaks")
    add("--port", type=int, default=0, help="0: a free one")
    add("--market", choices=MARKETS, default="replay", help="the recorded minute, or no market")
    add("--speed", type=_number, default=Decimal(1), help="of the replay; 0: as fast as possible")
    add("--loops", type=int, default=None, help="how often the recording is played; default: ever")
    add("--ladder-levels", type=int, default=10, help="made-up levels behind the recorded quote")
    add("--account", action="append", default=[], metavar="KEY:SECRET[:BTC=10,USDT=1000000]")
    add("--maker-fee", type=_number, default=Decimal("0.0010"), help="a fraction: 0.0010 is 0.1 %%")
    add("--taker-fee", type=_number, default=Decimal("0.0010"))
    add("--max-recv-window-ms", type=int, default=60000)
    add("--default-recv-window-ms", type=int, default=5000)
    add("--processing-bound-ms", type=int, default=10000, help="longer requests get -1007")
    add("--weight-limit", type=int, default=6000, help="request weight per minute and address")
    add("--order-limit-10s", type=int, default=100, help="unfilled orders per account")
    add("--order-limit-1d", type=int, default=200000)
    add("--kraken-calls", type=int, default=20, help="Kraken: REST calls an account may save up")
    add("--kraken-orders", type=int, default=125, help="Kraken: the same of orders in a pair")
    add("--kraken-nonces", type=int, default=0, help="Kraken: the keys' nonce window")
    add("--max-open-orders", type=int, default=200, help="per symbol and account")
    add("--seed", type=int, default=1)
    return parser


def _number(raw: str) -> Decimal:
    try:
        return amount_of(raw, "number")
    except ApiError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def config_of(arguments: Sequence[str], environment: str = "") -> SandboxConfig:
    """The settings that a command line and ``OMS_SANDBOX_ACCOUNTS`` describe."""
    options = parser().parse_args(arguments)
    raw_accounts = [*options.account, *environment.replace(";", " ").split()]
    try:
        accounts = tuple(parse_account(raw) for raw in raw_accounts)
        config = SandboxConfig(
            name=options.name,
            protocol=options.protocol,
            port=options.port,
            market=options.market,
            speed=options.speed,
            replay_loops=options.loops,
            ladder_levels=options.ladder_levels,
            accounts=accounts,
            maker_fee=options.maker_fee,
            taker_fee=options.taker_fee,
            max_recv_window_ms=options.max_recv_window_ms,
            default_recv_window_ms=options.default_recv_window_ms,
            processing_bound_ms=options.processing_bound_ms,
            seed=options.seed,
            kraken_limits=KrakenLimits(
                calls=options.kraken_calls,
                trading=options.kraken_orders,
                nonce_window=options.kraken_nonces,
            ),
            symbols=tuple(
                replace(one, max_num_orders=options.max_open_orders) for one in default_symbols()
            ),
        )
    except (ValueError, ApiError) as error:
        parser().error(str(error))
    limits = {
        ("REQUEST_WEIGHT", "MINUTE"): options.weight_limit,
        ("ORDERS", "SECOND"): options.order_limit_10s,
        ("ORDERS", "DAY"): options.order_limit_1d,
    }
    config.set_limits(limits)
    return config


async def run(config: SandboxConfig) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with SandboxServer(config) as server:
        ready = {
            "name": config.name,
            "port": server.port,
            "url": server.url,
            "pid": os.getpid(),
            # How many, not which: this line ends in logs, and a key belongs in none.
            "accounts": len(config.accounts),
            "max_recv_window_ms": config.max_recv_window_ms,
            "processing_bound_ms": config.processing_bound_ms,
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s"
    )
    asyncio.run(run(config_of(sys.argv[1:], os.environ.get(ACCOUNTS_VARIABLE, ""))))


if __name__ == "__main__":
    main()
