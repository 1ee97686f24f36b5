"""The dashboards, one file for each board and for each row of the home board."""
