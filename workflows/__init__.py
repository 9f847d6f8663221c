"""What happens, in which order: the durable workflows. Deterministic; no input or output here."""
