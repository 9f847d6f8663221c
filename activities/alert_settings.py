"""Which events alert, and where they go."""

from fnmatch import fnmatchcase
from typing import NamedTuple

from pydantic import SecretStr

from trading.oms.events import EVENT_TYPES


class AlertSettings(NamedTuple):
    """Where alerts go and which; the URL may hold a token, so it is a secret too."""

    url: SecretStr
    secret: SecretStr | None
    names: frozenset[str]
    deployment: str


def names_of(patterns: str) -> frozenset[str]:
    """The events that "order_in_doubt,order_a*" means. Raises `ValueError` for one of none."""
    found: set[str] = set()
    for pattern in filter(None, (one.strip() for one in patterns.split(","))):
        names = {name for name in EVENT_TYPES if fnmatchcase(name, pattern)}
        if not names:
            msg = f"no event is named {pattern!r}; the events are {', '.join(sorted(EVENT_TYPES))}"
            raise ValueError(msg)
        found |= names
    return frozenset(found)
