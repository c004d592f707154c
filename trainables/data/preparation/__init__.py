"""From the files that others publish to a folder in MMRec's format: reading, choosing, encoding, one rename."""
