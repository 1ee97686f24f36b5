"""Runs on the command line, `smpcfl bench`: what the protocol costs on this machine, beside its limits."""
