//go:build !linux

package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer/relief"
)

func addReliefChild(*cobra.Command) {}

// reliefRights refuses: sockets are closed on Linux only.
func reliefRights() error {
	return blindError{
		cause:  errors.New("this system is not Linux"),
		effect: "its sockets cannot be closed",
		remedy: "run midhop relief on the node that holds them",
	}
}

func carryOut(context.Context, reliefOptions, *sight, []relief.Plan, io.Writer) error {
	return reliefRights()
}
