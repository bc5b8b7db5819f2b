//go:build !unix

package ui

import (
	"errors"

	"github.com/gdamore/tcell/v2"
)

func suspend(tcell.Screen) error { return errors.New("this system has no ctrl-z") }
