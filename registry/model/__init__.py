"""Domain model: values, rules and the ports of the use-cases, one file per noun. No I/O."""
