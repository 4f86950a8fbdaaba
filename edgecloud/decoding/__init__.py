"""The algorithm: gates, acceptance, stopping, and the loops. Pure: no models, processes or files."""
