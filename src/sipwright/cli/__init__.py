"""The `sipwright` command: a file per subcommand, each with `add_arguments(parser)` and `main(options) -> status`."""
