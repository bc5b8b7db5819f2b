//go:build !windows

package jsonl

import (
	"errors"
	"syscall"
)

// noRoom knows the errors of a device, or of a user's share of it, that is full: there may be room again.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
