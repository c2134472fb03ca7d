"""The whole way of a row, step by step. Airflow, DVC and `ftl run` all call these same steps."""
