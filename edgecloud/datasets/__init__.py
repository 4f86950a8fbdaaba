"""From recordings and captions to validated samples."""
