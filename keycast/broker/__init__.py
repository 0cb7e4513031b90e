"""The broker of an operator: files for a Mosquitto, a trial of any broker, one for the demo."""
