"""The use-cases of groups, instances, API keys, nodes, pull tokens and webhooks."""
