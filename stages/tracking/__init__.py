"""What a build tells MLflow, and how it is written there without ever being written twice."""
