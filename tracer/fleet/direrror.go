package fleet

import "fmt"

// DirError says that a server cannot keep its streams where it should, and what helps.
type DirError struct {
	cause, remedy string

	err error
}

func (e *DirError) Error() string { return e.cause }
func (e *DirError) Unwrap() error { return e.err }

// Effect says what follows from it.
func (e *DirError) Effect() string { return "the hub does not start" }

// Remedy says what helps.
func (e *DirError) Remedy() string { return e.remedy }

func dirError(dir string, err error) *DirError {
	return &DirError{
		cause: fmt.Sprintf("the streams cannot be kept in %s: %v", dir, err), err: err,
		remedy: "--dir has to be a directory that this user may write to, on a disk with room",
	}
}
