"""How each provider turns a customer's credential into HTTP Basic."""
