"""From a label table to batches: crops or cached features, augmented, sampled, in windows."""
