"""The verifier: in this process, in another process, behind a wire."""
