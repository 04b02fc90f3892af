"""Customers' registries: the distribution protocol's client side, behind an egress guard."""
