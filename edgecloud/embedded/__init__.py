"""Shipped with the package: a miniature pair of models, a corpus, and the factory that made both."""
