"""Measuring the machine at hand: hardware profiles, and times at published shapes."""
