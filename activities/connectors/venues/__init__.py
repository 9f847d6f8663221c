"""Exchanges behind one connector, by a record of each: what is asked, and how it is read."""
