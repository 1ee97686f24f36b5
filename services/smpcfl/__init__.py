"""Peer-to-peer secure aggregation for federated learning.

A Flower user imports `smpcfl.flower`; the protocol itself is `smpcfl.protocol`.
"""

__version__ = "0.1.0"
