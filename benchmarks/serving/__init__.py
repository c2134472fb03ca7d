"""How fast the gateway answers, beside MLflow's own server and a bare fan-out, in one run on one machine."""
