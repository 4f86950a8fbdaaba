"""The code that made the embedded pair and corpus; needs the extra `build`."""
