"""Sign-in of people by OpenID Connect (docs/adr/0081-named-people.md)."""
