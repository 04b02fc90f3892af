"""Credential helpers for container clients. They return a pull token on request and store nothing.

Clients start these programs at every pull. To start fast, they import only the standard library and
`registry.hosts`.
"""
