package main

import "golang.org/x/sys/unix"

// The requests for a terminal's modes, set once what was written has gone out (ioctl_tty(2)).
const (
	getTermios = unix.TCGETS
	setTermios = unix.TCSETSW
)
