"""The hardware: clocks, profiles, caps and readings."""
