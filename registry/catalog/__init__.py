"""The SQL catalog: groups, images, jobs, keys, nodes, audit events."""
