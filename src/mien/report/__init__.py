"""Results as pages that open anywhere: one per recording, one for the study; figures for papers."""
