"""Sessions on a large model, and the engine that lets them share its forwards."""
