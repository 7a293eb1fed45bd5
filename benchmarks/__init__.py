"""podrail measured beside Debian's Go plugins; `./dev bench` runs it, README.md tells what is meant."""
