curl -s --max-time 5 http://telemetry.example.com/ || true
