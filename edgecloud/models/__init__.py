"""Models behind :class:`edgecloud.contracts.Model`, prompts and features."""
