"""What a service tells its operators: logs, metrics and traces."""
