"""From a split to a stream of batches. Nothing here knows images or tables."""
