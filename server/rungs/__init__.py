"""One request from query to answer: the pipeline and the rungs of the ladder."""
