"""Sign-in of people by OpenID Connect (docs/adr/0079-named-people.md)."""
