"""The few Kubernetes API calls that podrail makes; imported only where a cluster is configured."""
