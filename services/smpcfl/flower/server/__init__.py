"""Runs in the ServerApp: the strategy's wrapper, and a secure round from the ticket to the sum."""
