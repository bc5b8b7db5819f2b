package lab

import "errors"

// ErrNotRoot is returned where the lab may not make namespaces.
var ErrNotRoot = errors.New("the lab makes network namespaces, which needs root: run it with sudo")

// ErrConfined is returned where root may not make namespaces, as in most containers.
var ErrConfined = errors.New("root may not make network namespaces here: run the lab on the machine itself, or in a privileged container")

// ErrNotLinux is returned on systems without network namespaces.
var ErrNotLinux = errors.New("the lab is made of Linux namespaces and runs on Linux only")

// errClosed is what happens to a lab that is taken down while something is still going on in it.
var errClosed = errors.New("the lab is closed")
