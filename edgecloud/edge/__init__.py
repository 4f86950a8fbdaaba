"""The edge: a process of its own that drafts, with caps and readings that are its alone."""
