"""The chaos harness: thousands of orders while everything around them breaks, then three books."""
