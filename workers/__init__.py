"""The only place that wires: settings, adapters, workers, the HTTP gateway, the development stack."""
