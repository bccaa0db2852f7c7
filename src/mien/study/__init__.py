"""From rows to a study: people, baselines, segments, events, summaries, contrasts."""
