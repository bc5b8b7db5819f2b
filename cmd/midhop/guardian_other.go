//go:build !linux && !darwin

package main

// guardTerminal does nothing here: a console's modes go with the process.
func guardTerminal() (done func()) { return func() {} }

func isGuardian([]string) (code int, is bool) { return 0, false }
