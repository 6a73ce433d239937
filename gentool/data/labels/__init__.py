"""Files of labels as people write them: reading tables, choosing columns, matching names."""
