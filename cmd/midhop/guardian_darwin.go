package main

import "golang.org/x/sys/unix"

// The requests for a terminal's modes, set once what was written has gone out (termios(4)).
const (
	getTermios = unix.TIOCGETA
	setTermios = unix.TIOCSETAW
)
