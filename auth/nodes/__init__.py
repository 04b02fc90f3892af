"""Node identity: enrolment, certificate authority and verification of certificates."""
