"""Files: `serialization` saves trees of arrays, `export` writes networks for other programs."""
