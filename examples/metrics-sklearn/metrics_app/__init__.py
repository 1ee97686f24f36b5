"""Softmax regression in numpy, with metrics and a training loop that are the app's own."""
