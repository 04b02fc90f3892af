"""The node's layer decoder, a program of its own (docs/encrypted-delivery.md).

containerd starts it for every layer of every pull, so it imports little.
"""
