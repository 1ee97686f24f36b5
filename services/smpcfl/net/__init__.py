"""Runs in every service: certificates, where the others are, gRPC, and the messages on the wire."""
