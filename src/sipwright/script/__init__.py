"""What scripts run on: context, suspension, module declarations, the registry and the loader."""
