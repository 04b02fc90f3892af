"""Reading of images for pulls: from a reference to a document or blob."""
