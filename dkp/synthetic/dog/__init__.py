"""The dog: how it moves, what its coat looks like, and domains of recordings of dogs."""
