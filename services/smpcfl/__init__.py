"""Peer-to-peer secure aggregation for federated learning.

A Flower user imports `smpcfl.flower`; the protocol itself is `smpcfl.protocol`.
"""

import os

# TLS 1.3 alone: gRPC in Python offers no lower bound for the version. This names a suite of TLS 1.2 that
# fits no certificate here, all of which are of EC keys; those of TLS 1.3 are not affected. It stands here
# because gRPC reads it once, when it is imported, and whatever of this package imports gRPC comes later.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES256-GCM-SHA384"
# Else each handshake that fails is a line of gRPC's own, as many as a stranger likes.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

__version__ = "0.1.0"
