"""The order management system: what an order is, and the doors to submit one.

from trading.oms import OrderManager
from trading.oms.models import Order
"""
