"""How good scores are: measures with intervals, calibration, corruptions, honest tuning, reports and plots. No torch."""
