//go:build unix

package ui

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gdamore/tcell/v2"
)

// suspend gives the terminal back and stops this process as ctrl-z does, until it is continued. Only this process stops:
// what runs beside it, such as the agents of a lab, goes on.
func suspend(s tcell.Screen) error {
	if err := s.Suspend(); err != nil {
		return err
	}
	// The signal may reach another thread after kill has returned: to go on before it did would draw on a terminal that
	// is not ours any more.
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTSTP); err != nil {
		return err
	}
	select {
	case <-continued:
	case <-time.After(time.Second):
		// get_signal does not stop a process group that nobody could continue (is_current_pgrp_orphaned), such as that of
		// a terminal's only program.
	}
	return s.Resume()
}
