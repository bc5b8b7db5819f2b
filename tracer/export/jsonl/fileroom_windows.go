package jsonl

import (
	"errors"
	"syscall"
)

// noRoom knows the errors of a full device: ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL (winerror.h).
func noRoom(err error) bool {
	return errors.Is(err, syscall.Errno(39)) || errors.Is(err, syscall.Errno(112))
}
