"""The protocol between edge and cloud: messages, and both halves of a session."""
