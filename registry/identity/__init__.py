"""Sign-in of people by OpenID Connect (docs/adr/0080-named-people.md)."""
