"""From settings and images to a model file: the plan, the loop, and the files of a run."""
