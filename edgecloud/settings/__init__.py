"""Settings: declared, read from flags, presets and files, checked."""
