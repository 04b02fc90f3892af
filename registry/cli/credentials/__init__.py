"""Credential helpers of container clients: a pull token when one is asked for, and nothing kept.

Clients start these programs at every pull, so they import the standard library and `registry.hosts` only.
"""
