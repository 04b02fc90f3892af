"""Sign-in of people by OpenID Connect (docs/adr/0085-named-people.md)."""
