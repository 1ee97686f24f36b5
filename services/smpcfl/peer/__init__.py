"""The peer: a long-lived agent beside Flower's SuperNode."""
