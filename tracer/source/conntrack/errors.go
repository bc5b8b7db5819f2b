package conntrack

// UnavailableError says that the connection tracking table cannot be read here. It is one line of cause, one of effect
// and one of remedy.
type UnavailableError struct {
	Cause, Effect, Remedy string
	Err                   error
}

// Error implements error.
func (e *UnavailableError) Error() string {
	return e.Cause + "; effect: " + e.Effect + "; remedy: " + e.Remedy
}

// Unwrap returns the kernel's error.
func (e *UnavailableError) Unwrap() error { return e.Err }
