"""The report of a run: one page of HTML without links to anything outside it."""
