"""The store: see `activities.store.store`."""

from activities.store.accounts import Adjustment
from activities.store.export import ExportFilter, ExportKind, export_columns
from activities.store.store import Store
from activities.store.types import (
    Admission,
    Claim,
    ClaimKey,
    ClaimOutcome,
    InboxItem,
    JournalEntry,
    Listing,
    OrderFilter,
    Standing,
    StoredClaim,
    StoreSettings,
    Unreadable,
    resend_scope,
)
from trading.oms.enums import TradingState

__all__ = [
    "Adjustment",
    "Admission",
    "Claim",
    "ClaimKey",
    "ClaimOutcome",
    "ExportFilter",
    "ExportKind",
    "InboxItem",
    "JournalEntry",
    "Listing",
    "OrderFilter",
    "Standing",
    "Store",
    "StoreSettings",
    "StoredClaim",
    "TradingState",
    "Unreadable",
    "export_columns",
    "resend_scope",
]
