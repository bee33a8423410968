"""From the published file to batches: `prepare` makes arrays and the split, `datamodule` batches of the arrays."""
