"""Files, errors and logs: what every other room stands on."""
