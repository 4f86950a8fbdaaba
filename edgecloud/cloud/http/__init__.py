"""The verifier behind HTTP: the application, its telemetry, and the client."""
