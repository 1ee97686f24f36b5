"""Logistic regression of scikit-learn's, with metrics and a training loop that are the app's own."""
