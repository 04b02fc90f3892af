"""The registry's nouns: values, rules and the ports that use-cases need. Pure."""
