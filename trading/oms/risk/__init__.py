"""Pre-trade risk: pure checks over a snapshot, and the checker that runs them in order."""
