"""From the published file to batches: `fetch` → `prepare` → `datamodule`."""
