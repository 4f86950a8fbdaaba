"""The words of reports, English first, Chinese second, by key. Data only."""
