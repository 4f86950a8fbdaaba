"""The verifier whose model is on vLLM servers."""
