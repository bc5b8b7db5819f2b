package jsonl

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// isClosed knows the errors of a pipe without a reader: ERROR_BROKEN_PIPE and ERROR_NO_DATA (winerror.h).
func isClosed(err error) bool {
	return errors.Is(err, syscall.Errno(109)) || errors.Is(err, syscall.Errno(232)) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrClosed)
}
