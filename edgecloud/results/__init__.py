"""From traces to numbers, journals and results."""
