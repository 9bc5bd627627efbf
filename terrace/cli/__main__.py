"""`python -m terrace.cli` is `terrace`."""

from terrace.cli.app import main

main()
