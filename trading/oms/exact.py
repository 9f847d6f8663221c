"""The arithmetic context of the OMS: sums and products of valid decimals are never rounded.

Python's default context has 28 digits, fewer than a price of 20 digits and 18 decimals has; even
`abs(value)` and `-value` round to it.
"""

import decimal

EXACT = decimal.Context(prec=100)
