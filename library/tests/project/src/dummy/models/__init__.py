"""What is trained: `network` holds the layers, `classifier` how they learn."""
