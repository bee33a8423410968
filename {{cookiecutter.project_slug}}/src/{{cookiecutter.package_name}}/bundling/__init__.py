"""One run with all that it was made of and all that came of it, in one file for a repository such as Zenodo."""
