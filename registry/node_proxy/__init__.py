"""`crisper node proxy`: a registry on the node's loopback interface, for Docker (docs/nodes.md, "Proxy").

It pulls encrypted images for clients that cannot decrypt, and serves the original manifest and layers.
"""
