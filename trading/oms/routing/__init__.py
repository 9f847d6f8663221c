"""Which venue an order goes to."""
