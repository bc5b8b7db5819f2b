//go:build !linux

package main

// heedMemoryLimit does nothing where there are no control groups.
func heedMemoryLimit() {}
