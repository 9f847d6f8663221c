"""Everything that touches the world: exchanges, the store, the rate-limit ledger, the feed."""
