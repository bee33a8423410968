"""What is shared with others: runs by Git and DVC, and where the DVC remote is."""
