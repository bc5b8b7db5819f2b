//go:build !windows

package jsonl

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// isClosed knows the errors of a pipe without a reader. For EPIPE to be returned on standard output the program must
// catch SIGPIPE (os/signal).
func isClosed(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrClosed)
}
