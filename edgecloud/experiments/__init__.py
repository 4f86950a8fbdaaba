"""Running experiments: processes, warm-up, samples, journal. What benches and command line share."""
