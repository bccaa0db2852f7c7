"""Jobs on many machines that share a folder: plans, records of jobs, and what they add up to."""
