"""What it runs on: clocks, profiles, caps and readings."""
