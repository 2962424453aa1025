"""The compiler of the routing script language: source -> lexer -> parser -> bind -> emit."""
